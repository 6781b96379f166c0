import dataclasses
import math
import unicodedata

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from abaw.errors import InputError
from abaw.postprocess import (
    SavedScores,
    average_scores,
    likeliest,
    list_scores,
    load_scores,
    save_scores,
    submit_scores,
)

NAMES = ("calm", "glad", "sad")


def saved(scores, covered=None, faces=None, sound=None, labels=None, names=NAMES):
    scores = torch.tensor(scores, dtype=torch.float32)
    frames = len(scores)
    covered = torch.tensor([True] * frames if covered is None else covered)
    return SavedScores(
        scores=scores * covered[:, None],
        covered=covered,
        video_mask=torch.tensor([True] * frames if faces is None else faces),
        audio_mask=torch.tensor([True] * frames if sound is None else sound),
        labels=torch.tensor([0] * frames if labels is None else labels),
        class_names=names,
    )


def write(folder, **videos):
    for video, scores in videos.items():
        save_scores(folder / f"{video}.safetensors", scores)
    return folder


def test_what_is_saved_is_read_again(tmp_path):
    one = saved([[0.5, 0.3, 0.2], [0, 1, 0]], [True, False], [False, True], [True, False], [2, 1])
    path = write(tmp_path / "new", v=one) / "v.safetensors"
    again = load_scores(path)
    assert again.class_names == NAMES
    for name in ("scores", "covered", "video_mask", "audio_mask", "labels"):
        assert getattr(again, name).equal(getattr(one, name))
        assert getattr(again, name).dtype == getattr(one, name).dtype
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": torch.rand(2, 4)}, r"scores is torch.float32 \(2, 4\), not torch.float32 \(2, 3\)"),
        ({"scores": torch.rand(2, 3).double()}, "scores is torch.float64"),
        ({"scores": torch.full((2, 3), math.nan)}, "a score is not finite"),
        ({"covered": torch.ones(2)}, "covered is torch.float32"),
        ({"video_mask": torch.ones(3, dtype=torch.bool)}, r"video_mask is torch.bool \(3,\)"),
        ({"audio_mask": torch.ones(2, 1, dtype=torch.bool)}, "audio_mask is"),
        ({"labels": torch.tensor([0, 3])}, "a label is not from 0 to 2"),
        ({"labels": torch.tensor([-1, 0])}, "a label is not from 0 to 2"),
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, change, message):
    path = tmp_path / "v.safetensors"
    save_scores(path, dataclasses.replace(saved([[1, 0, 0], [0, 1, 0]]), **change))
    with pytest.raises(InputError, match=rf"v\.safetensors: {message}.*; run 'abaw predict' again"):
        load_scores(path)


def test_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "v.safetensors"
    with pytest.raises(InputError, match=r"v\.safetensors: holds no scores"):
        load_scores(path)
    path.write_bytes(b"junk")
    with pytest.raises(InputError, match=r"v\.safetensors: holds no scores"):
        load_scores(path)
    for metadata in (None, {"class_names": "calm"}):
        save_file({"scores": torch.ones(2, 1)}, path, metadata)
        with pytest.raises(InputError, match=r"v\.safetensors: holds no scores"):
            load_scores(path)


def test_the_likeliest_class_of_a_frame_without_a_score_is_its_neighbour_s():
    scores = torch.tensor([[0, 0, 0], [0.1, 0.2, 0.7], [0, 0, 0], [0, 0, 0], [0.5, 0.3, 0.2]])
    assert likeliest(scores, scores.any(-1)).tolist() == [2, 2, 2, 0, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 7), st.integers(0, 2**20))
def test_the_average_is_the_mean_over_the_runs_that_scored_a_frame(tmp_path_factory, runs, frames, seed):
    generator = torch.Generator().manual_seed(seed)

    def mask():
        return (torch.rand(frames, generator=generator) < 0.7).tolist()

    given_runs = [
        saved(
            torch.randn(frames, 3, generator=generator).softmax(-1).tolist(),
            mask(), mask(), mask(),
            torch.randint(3, (frames,), generator=generator).tolist(),
        )
        for _ in range(runs)
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("runs")
    paths = [write(folder / str(number), v=run) / "v.safetensors" for number, run in enumerate(given_runs)]
    average = average_scores(paths)

    for frame in range(frames):
        scored = [run for run in given_runs if run.covered[frame]]
        told = [run for run in scored if run.video_mask[frame] or run.audio_mask[frame]]
        votes = [run.scores[frame].double() for run in told or scored]
        assert average.covered[frame] == bool(votes)
        expected = sum(votes) / len(votes) if votes else torch.zeros(3, dtype=torch.float64)
        torch.testing.assert_close(average.scores[frame].double(), expected, atol=1e-6, rtol=0)
        assert average.video_mask[frame] == any(run.video_mask[frame] for run in given_runs)
        assert average.audio_mask[frame] == any(run.audio_mask[frame] for run in given_runs)
        if runs == 1:
            assert average.labels[frame] == given_runs[0].labels[frame]
        elif votes:
            assert average.labels[frame] == average.scores[frame].argmax()
    assert average.scores.dtype == torch.float32
    assert average.class_names == NAMES


def test_videos_of_runs_are_one_however_their_names_letters_are_composed(tmp_path):
    names = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    one, two = (write(tmp_path / name, **{name: saved([[1, 0, 0]])}) for name in names)
    assert list_scores([one, two]) == {
        names[0]: [one / f"{names[0]}.safetensors", two / f"{names[1]}.safetensors"]
    }
    template, submission = tmp_path / "sample.txt", tmp_path / "p.txt"
    template.write_text(f"image_location,{','.join(NAMES)}\n{names[1]}/00001.jpg,\n")
    submit_scores(submission, template, [(names[0], saved([[1, 0, 0]]))])
    assert submission.read_text().splitlines()[1] == f"{names[1]}/00001.jpg,0"  # as the template has it
    submit_scores(submission, None, [(names[1], saved([[1, 0, 0]]))])
    assert submission.read_text().splitlines()[1] == f"{names[1]}/00001.jpg,0"


def test_what_systems_leave_among_the_scores_is_no_video(tmp_path):
    folder = write(tmp_path / "one", v=saved([[1, 0, 0]]))
    other = write(tmp_path / "two", v=saved([[1, 0, 0]]))
    for name in ("._v.safetensors", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"?")
    assert list_scores([folder, other]) == {"v": [folder / "v.safetensors", other / "v.safetensors"]}


def test_a_frame_that_no_run_scored_takes_the_nearest_label_of_the_average(tmp_path):
    one = saved([[0, 0, 1], [0, 0, 1], [0.8, 0, 0.2]], [False, False, True])
    two = saved([[0, 0, 1], [0, 0, 1], [0, 0.1, 0.9]], [False, False, True])
    paths = [write(tmp_path / n, v=run) / "v.safetensors" for n, run in (("one", one), ("two", two))]
    assert average_scores(paths).labels.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (saved([[1, 0, 0]], names=("glad", "calm", "sad")), "different classes .* glad,calm,sad in .*two"),
        (saved([[1, 0, 0]] * 2), "different frames have no average: 2 in .*two/v.* 1 in .*one/v"),
    ],
)
def test_runs_of_other_classes_or_lengths_have_no_average(tmp_path, other, message):
    first = write(tmp_path / "one", v=saved([[1, 0, 0]])) / "v.safetensors"
    second = write(tmp_path / "two", v=other) / "v.safetensors"
    with pytest.raises(InputError, match=message):
        average_scores([first, second])


def test_the_files_of_several_folders_are_listed_by_video(tmp_path):
    one, two = saved([[1, 0, 0]]), saved([[0, 1, 0]])
    folders = [
        write(tmp_path / "one", **{"b.2": one, "a": one}),
        write(tmp_path / "two", **{"a": two, "b.2": two}),
    ]
    assert list_scores(folders) == {
        video: [folder / f"{video}.safetensors" for folder in folders] for video in ("a", "b.2")
    }


def test_folders_that_do_not_go_together_are_refused(tmp_path):
    one = saved([[1, 0, 0]])
    a, b = write(tmp_path / "a", v=one, w=one), write(tmp_path / "b" / "scores", w=one, x=one)
    with pytest.raises(InputError, match=r"scores lacks v; .*a lacks x: predict the same videos"):
        list_scores([a, b])
    with pytest.raises(InputError, match="given twice"):
        list_scores([a, a / ".." / "a"])
    with pytest.raises(InputError, match=r"b: holds no scores.*did you mean .*b/scores\?"):
        list_scores([a, b.parent])
    with pytest.raises(InputError, match=r"none: holds no scores.*'abaw predict'"):
        list_scores([tmp_path / "none"])


def test_a_submission_is_of_the_labels_that_were_saved(tmp_path):
    videos = {
        "b": saved([[0.9, 0.1, 0]] * 2, [True, False], labels=[2, 1]),
        "a": saved([[1, 0, 0]] * 2, faces=[False, True], labels=[0, 2]),
    }
    path = tmp_path / "predictions.txt"
    report = submit_scores(path, None, videos.items())
    rows = [
        "image_location,calm,glad,sad",
        "b/00001.jpg,2",
        "b/00002.jpg,1",
        "a/00001.jpg,2",
        "a/00002.jpg,2",
    ]
    assert path.read_text().splitlines() == rows
    assert dataclasses.astuple(report) == (2, 4, 1, 1, 0)
    assert report.describe("p.txt").splitlines() == [
        "4 rows of 2 videos: p.txt",
        "  1 without a face take the label of the nearest frame with one",
        "  1 without a score take the label of the nearest frame with one",
    ]


def test_what_was_written_is_read_again_and_checked(tmp_path, monkeypatch):
    def write_half(path, *_):
        path.write_text("image_location,calm,glad,sad\nv/00001.jpg\n")

    monkeypatch.setattr("abaw.postprocess.scores.write_submission", write_half)
    with pytest.raises(InputError, match=r"line 2: 'v/00001\.jpg' is not two fields"):
        submit_scores(tmp_path / "predictions.txt", None, {"v": saved([[1, 0, 0]])}.items())


def test_scores_that_make_no_submission_are_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "predictions.txt"
    one, other = saved([[1, 0, 0]]), saved([[1, 0]], names=("calm", "glad"))
    for videos, message in (
        ({}, "no video was scored"),
        ({"v": one, "w": saved([[1, 0, 0]], [False])}, r"^w: no frame has a finite score"),
        ({"v": one, "w": other}, "^w: its classes are calm,glad, other videos' are calm,glad,sad"),
    ):
        with pytest.raises(InputError, match=message):
            submit_scores(path, None, videos.items())
    assert not path.exists()


def test_a_run_that_was_given_nothing_has_no_say_beside_one_that_was(tmp_path):
    # One only looks, the other only listens: face, voice, both, neither.
    looks = saved([[1, 0, 0]] * 4, faces=[True, False, True, False], sound=[False] * 4)
    hears = saved([[0, 1, 0]] * 4, faces=[False] * 4, sound=[False, True, True, False])
    paths = [write(tmp_path / n, v=r) / "v.safetensors" for n, r in {"a": looks, "b": hears}.items()]
    average = average_scores(paths)
    expected = [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]]
    torch.testing.assert_close(average.scores, torch.tensor(expected, dtype=torch.float32))
    assert average.covered.all()
    assert average.answered.tolist() == [True, True, True, False]


def test_a_frame_with_neither_face_nor_voice_takes_its_neighbour_s_label(tmp_path):
    labels = [0, 1, 2, 2, 1, 0]
    heard = saved([[1, 0, 0]] * 6, None, [False] * 6, [False, True, False, False, True, False], labels)
    seen = saved([[1, 0, 0]] * 6, None, [True, False, False, False, False, True], [True, True] + [False] * 4)
    report = submit_scores(tmp_path / "p.txt", None, [("heard", heard), ("seen", seen)])
    rows = (tmp_path / "p.txt").read_text().splitlines()[1:7]
    assert [int(row[-1]) for row in rows] == [1, 1, 1, 1, 1, 1]
    assert report.neither == 4 + 3
    assert "7 with neither face nor voice take that of the nearest" in report.describe("p.txt")
    assert "neither" not in submit_scores(tmp_path / "q.txt", None, [("v", saved([[1, 0, 0]]))]).describe("")


def test_videos_without_anything_are_counted_and_keep_their_labels(tmp_path):
    blank = saved([[1, 0, 0]] * 2, None, [False] * 2, [False] * 2, [2, 1])
    with pytest.warns(UserWarning, match=r"2 of 3 videos have neither face nor voice .*first: v, w\)"):
        submit_scores(
            tmp_path / "p.txt", None, [("v", blank), ("w", blank), ("x", saved([[1, 0, 0]], labels=[1]))]
        )
    assert [row[-1] for row in (tmp_path / "p.txt").read_text().split()[1:]] == list("21211")
