import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from abaw.errors import InputError
from abaw.synth import corpus as corpus_module
from abaw.synth import cues, faces, voices, write_corpus

HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
CHALLENGE = "EXPR_Recognition_Challenge"
ANNOTATIONS = (f"{CHALLENGE}/Train_Set", f"{CHALLENGE}/Validation_Set", "test_labels")
CROPS = ("cropped_aligned", "cropped_aligned_new_50_vids")
RAW = ("batch1", "batch2", "new_vids")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("synth") / "corpus"
    write_corpus(root, videos=18, frames=48, seed=0, progress=False)
    return root


def content(root):
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}


def annotations(root, *folders):
    """Labels of each person, read as text."""
    return {
        file.stem: np.array([int(row) for row in file.read_text().splitlines()[1:]])
        for folder in folders or ANNOTATIONS
        for file in (root / folder).glob("*.txt")
    }


def crops(root, name):
    return [file for folder in CROPS for file in (root / folder / name).glob("*.jpg")]


def raw(root):
    return {
        file.stem: file for folder in RAW for file in (root / folder).iterdir() if file.name != ".DS_Store"
    }


def base(root, name):
    """The raw video of a person."""
    plain = next(name.removesuffix(s) for s in ("_left", "_right", "") if name.endswith(s))
    return raw(root)[plain]


def pictures(path):
    with av.open(path) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def sound(path):
    """Start and end of the audio track, or None."""
    with av.open(path) as container:
        if not container.streams.audio:
            return None
        frames = [(float(f.pts * f.time_base), f.samples / f.sample_rate) for f in container.decode(audio=0)]
    return frames[0][0], frames[-1][0] + frames[-1][1]


def test_layout(root):
    top = {path.name for path in root.iterdir()}
    assert top == {
        CHALLENGE,
        "Expression_Recognition_Challenge_test_set_release.txt",
        "Expression_Recognition_Challenge_test_set_sample.txt",
        "SYNTHETIC.txt",
        "test_labels",
        *CROPS,
        *RAW,
    }
    for folder in ANNOTATIONS:
        for file in (root / folder).glob("*.txt"):
            header, *rows = file.read_text().splitlines()
            assert header == HEADER
            assert len(rows) == 48
            assert {int(row) for row in rows} <= set(range(-1, 8))
    assert set(annotations(root)) == {
        folder.name for kind in CROPS for folder in (root / kind).iterdir() if folder.is_dir()
    }
    assert len(annotations(root)) == 18


def test_every_person_has_a_raw_video_and_all_of_them_are_used(root):
    assert {base(root, name) for name in annotations(root)} == set(raw(root).values())
    assert {path.suffix for path in raw(root).values()} == {".mp4", ".avi"}


def test_crops_are_aligned_jpegs_that_differ(root):
    for name in annotations(root):
        images = [cv2.imread(str(file)) for file in sorted(crops(root, name))]
        assert {image.shape for image in images} == {(112, 112, 3)}
        assert all((a != b).any() for a, b in pairwise(images))


def test_frames_without_a_face_have_no_jpg(root):
    gaps = {}
    for name in annotations(root):
        there = {int(file.stem) for file in crops(root, name)}
        gaps[name] = [k for k in range(1, 49) if k not in there]
        assert 0 < len(gaps[name]) < 25
    runs = [np.split(np.array(g), np.flatnonzero(np.diff(g) > 1) + 1) for g in gaps.values()]
    lengths = [len(run) for video in runs for run in video]
    assert 1 in lengths  # single frames
    assert max(lengths) >= 5  # and spans
    assert any(48 in g and 47 in g for g in gaps.values())  # and at the end


def test_numbers_of_labels_crops_and_pictures_disagree(root):
    decoded = {path: len(pictures(path)) for path in raw(root).values()}
    differences = {count - 48 for count in decoded.values()}
    assert min(differences) < 0 < max(differences)
    assert max(map(abs, differences)) <= 3
    last = {max(int(file.stem) for file in crops(root, name)) for name in annotations(root)}
    assert min(last) < 48 < max(last)


def test_labels_that_nobody_gave(root):
    missing = [(labels == -1).sum() for labels in annotations(root).values()]
    assert 0 in missing
    assert max(missing) > 3


def test_stray_files(root):
    strays = {str(file.parent.relative_to(root)) for file in root.rglob(".DS_Store")}
    assert {"batch1", "cropped_aligned", *ANNOTATIONS[:2]} <= strays
    assert any(place.count("/") == 1 and place.startswith("cropped_aligned") for place in strays)


def test_shared_recordings(root):
    names = set(annotations(root))
    left = {name.removesuffix("_left") for name in names if name.endswith("_left")}
    right = {name.removesuffix("_right") for name in names if name.endswith("_right")}
    assert left & right  # both have a suffix, and no annotation is of the raw video's name
    assert (right - left) & names  # one has it, one has not
    for shared in left & right:
        assert shared not in names
        with av.open(raw(root)[shared]) as container:
            scene = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
        assert np.abs(scene[40:70, 20:60] - scene[40:70, 100:140]).mean() > 5  # two different faces


def test_names_with_dashes_numbers_and_spaces(root):
    names = "\n".join(annotations(root))
    assert " " in names
    assert "1280x720" in names
    assert "video" in names


def test_tracks_that_do_not_fit(root):
    starts, ends, rates, mute, picture_starts, steps = [], [], set(), 0, [], []
    for path in raw(root).values():
        times = pictures(path)
        step = np.diff(times).min()
        steps.append(np.diff(times).max() / step)
        rates.add(round(1 / step))
        picture_starts.append(times[0])
        track = sound(path)
        if track is None:
            mute += 1
            continue
        starts.append(track[0])
        ends.append(track[1] - times[-1] - step)
    assert mute == 1
    assert rates == {15, 24, 25, 30}
    assert max(starts) == pytest.approx(0.5, abs=0.03)
    assert min(ends) < -0.3
    assert max(ends) > 0.3
    assert max(picture_starts) == pytest.approx(0.4, abs=0.05)
    assert max(steps) == pytest.approx(2, rel=0.05)


def test_the_test_set_is_listed_and_its_labels_are_kept_apart(root):
    tested = (root / "Expression_Recognition_Challenge_test_set_release.txt").read_text().splitlines()
    rows = (root / "Expression_Recognition_Challenge_test_set_sample.txt").read_text().splitlines()
    assert rows[0] == f"image_location,{HEADER}"
    assert rows[1:] == [f"{name}/{k:05d}.jpg,0" for name in tested for k in range(1, 49)]
    assert len(tested) >= 2
    assert set(tested) == set(annotations(root, "test_labels"))
    assert not set(tested) & set(annotations(root, *ANNOTATIONS[:2]))
    present = {f"{name}/{file.name}" for name in tested for file in crops(root, name)}
    assert any(row.removesuffix(",0") not in present for row in rows[1:])


def test_equal_seeds_give_equal_bytes_whatever_the_workers(tmp_path):
    options = {"videos": 8, "frames": 40, "progress": False}
    write_corpus(tmp_path / "a", seed=1, **options)
    write_corpus(tmp_path / "b", seed=1, workers=2, **options)
    first, second = content(tmp_path / "a"), content(tmp_path / "b")
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_what_lies_there_is_not_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"mine .*no SYNTHETIC\.txt"):
            write_corpus(tmp_path / "mine", 8, 40, progress=False, overwrite=overwrite)
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        write_corpus(tmp_path / "file", 8, 40, progress=False)


@pytest.fixture
def quick(monkeypatch):
    """Leave out what takes time: the recordings."""
    monkeypatch.setattr(corpus_module, "write_recording", lambda *_: None)


def test_a_corpus_is_replaced_only_when_asked(tmp_path, quick):
    root = tmp_path / "corpus"
    write_corpus(root, 8, 40, progress=False)
    with pytest.raises(InputError, match="--overwrite"):
        write_corpus(root, 8, 41, progress=False)
    assert "--frames 40" in (root / "SYNTHETIC.txt").read_text()
    write_corpus(root, 8, 41, progress=False, overwrite=True)
    assert "--frames 41" in (root / "SYNTHETIC.txt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_another_seed_is_another_corpus(tmp_path, quick):
    for seed in (1, 2):
        write_corpus(tmp_path / str(seed), 8, 40, seed=seed, progress=False)
    first, second = content(tmp_path / "1"), content(tmp_path / "2")
    assert list(first) != list(second)


def test_an_empty_folder_and_missing_parents_will_do(tmp_path, quick):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/.DS_Store").touch()  # as macOS leaves it in every folder that it shows
    write_corpus(tmp_path / "empty", 8, 40, progress=False)
    write_corpus(str(tmp_path / "a/b/c"), 8, 40, progress=False)
    assert (tmp_path / "empty/SYNTHETIC.txt").is_file()
    assert (tmp_path / "a/b/c/SYNTHETIC.txt").is_file()


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(root: Path, *_):
        assert (root / "batch1").is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus_module, "write_recording", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path / "corpus", 8, 40, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_faces_and_voices_are_as_weak_as_asked(tmp_path, monkeypatch):
    asked = set()
    for module in (faces, voices):

        def follow(*args, weakest, noise, module=module):
            asked.add((module, weakest))
            return cues.follow(*args, weakest=weakest, noise=noise)

        monkeypatch.setattr(module, "follow", follow)
    write_corpus(tmp_path / "plain", videos=8, frames=40, progress=False)
    assert asked == {(faces, 0.75), (voices, 0.75)}
    asked.clear()
    write_corpus(tmp_path / "weak", videos=8, frames=40, progress=False, weakest=0.1)
    assert asked == {(faces, 0.1), (voices, 0.1)}
    plain, weak = content(tmp_path / "plain"), content(tmp_path / "weak")
    changed = [name for name in plain if name.endswith(".txt") and plain[name] != weak[name]]
    assert changed == ["SYNTHETIC.txt"]  # no label
    assert b"--weakest 0.1" in weak["SYNTHETIC.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_killed_it_leaves_no_process_and_the_next_one_removes_the_draft(tmp_path, signum):
    code = "from abaw.synth import write_corpus as write; write({!r}, 40, 1000, progress=False, workers=2)"
    root = tmp_path / "corpus"
    if signum == signal.SIGTERM:  # the command's alone, as it settles what signals do
        code = "from abaw.cli import main; raise SystemExit(main(['synth', {!r}, '--frames=1000']))"
    process = subprocess.Popen([sys.executable, "-c", code.format(str(root))], start_new_session=True)
    try:
        await_true(lambda: list(tmp_path.glob(".corpus.*.tmp/batch1/*.mp4")))
        process.send_signal(signum)
        process.wait(timeout=60)
        await_true(lambda: not running(process.pid))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    left = list(tmp_path.iterdir())
    if signum == signal.SIGTERM:
        assert process.returncode == 128 + signum
        assert left == []
        return
    (draft,) = left
    os.utime(draft / ".lock", (1, 1))
    write_corpus(root, videos=8, frames=40, progress=False)
    assert list(tmp_path.iterdir()) == [root]
    assert not (root / ".lock").exists()


def await_true(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def running(group):
    """Processes of a group that are not just waited for."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = status.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(status)
    return found
