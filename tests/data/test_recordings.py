from pathlib import Path

import numpy as np
import pytest
from aff_wild2_files import HEADER, Corpus

from abaw.data.audio import SoundTrack
from abaw.data.layout import scan
from abaw.data.recordings import frame_times, load_recordings, read_crops, read_targets
from abaw.errors import InputError

CLASSES = tuple(HEADER.split(","))


def sound(*picture_times: float) -> SoundTrack:
    return SoundTrack(Path("none"), 0.0, np.array([[0, 10]]), np.array(picture_times))


def load(corpus: Corpus, sounds: dict[str, SoundTrack]) -> dict:
    videos = scan(corpus.root)
    recordings = load_recordings(videos, read_targets(videos, CLASSES), sounds, read_crops(videos))
    return {recording.video_id: recording for recording in recordings}


def test_labels_rule_and_every_row_is_a_frame(corpus: Corpus):
    corpus.add("v", [0, -1, 2, 3, -1, 1], missing=[2, 5], raw="")
    recording = load(corpus, {"v": sound(0.0, 0.1, 0.2, 0.3, 0.4, 0.5)})["v"]
    assert recording.target.tolist() == [0, -1, 2, 3, -1, 1]
    assert recording.crops.present.tolist() == [True, True, False, True, True, False]
    np.testing.assert_allclose(recording.time, np.arange(6) / 10)
    assert recording.broken.is_shared()


def test_videos_whose_crops_cannot_be_told_are_counted(corpus: Corpus):
    corpus.add("v", [0, 0, 0], missing=[0, 2], raw="")
    corpus.add("w", [0, 0], missing=[0, 1], raw="")
    for name in ("v/face.jpg", "v/.DS_Store", "w/one.jpg", "w/two.jpg"):
        (corpus.root / "cropped_aligned" / name).write_bytes(b"?")
    with pytest.warns(
        UserWarning, match=r"1 of 2 videos have no crop called 00001.jpg .*first: w\)"
    ) as caught:
        recordings = load(corpus, {})
    assert any("3 files in 2 crops folders are no crop" in str(warning.message) for warning in caught)
    assert recordings["v"].crops.present.tolist() == [False, True, False]
    assert not recordings["w"].crops.present.any()


def test_differences_are_told_once_for_the_corpus(corpus: Corpus):
    corpus.add("same", [0] * 4, raw="")
    corpus.add("fewer", [0] * 4, raw="")
    corpus.add("beyond", [0] * 4, raw="")
    corpus.add_crops("beyond", [4, 5, 6])
    four = sound(0.0, 0.1, 0.2, 0.3)
    with pytest.warns(UserWarning, match=r"2 of 3 videos .* worst is beyond, by 3") as caught:
        recordings = load(corpus, {"same": four, "fewer": sound(0.0, 0.1), "beyond": four})
    assert len(caught) == 1
    assert [len(recording) for recording in recordings.values()] == [4, 4, 4]
    np.testing.assert_allclose(recordings["fewer"].time, [0.0, 0.1, 0.2, 0.3])


def test_video_without_crops_is_told(corpus: Corpus):
    corpus.add("v", [0, 0], raw="")
    (corpus.root / corpus.annotations / "Train_Set/w.txt").write_text(f"{HEADER}\n0\n1\n")
    with pytest.warns(UserWarning, match=r"1 of 2 videos have no crops folder \(first: w\)"):
        assert not load(corpus, {})["w"].crops.present.any()


def test_length_of_a_test_video(corpus: Corpus):
    corpus.add("v", [0, 0], raw="")
    (corpus.root / "Expr_test_set_release.txt").write_text("pictures\ncrops\nnothing\nrows\n")
    (corpus.root / "Expr_test_set_sample.txt").write_text("image_location\nrows/00009.jpg,\n")
    corpus.add_crops("crops", [0, 6])
    with pytest.warns(UserWarning, match=r"no crops folder|more or fewer"):
        recordings = load(corpus, {"pictures": sound(0.0, 0.1, 0.2), "rows": sound(0.0, 0.1)})
    lengths = {name: len(recording) for name, recording in recordings.items()}
    assert lengths == {"v": 2, "pictures": 3, "crops": 7, "nothing": 0, "rows": 9}
    assert (recordings["rows"].target == -1).all()


def test_headers_must_agree(corpus: Corpus):
    corpus.add("v", [0, 0], raw="")
    odd = corpus.root / corpus.annotations / "Train_Set/w.txt"
    odd.write_text("Neutral,Anger\n0\n")
    with pytest.raises(InputError, match=r"w\.txt, line 1: the classes Neutral,Anger are not"):
        load(corpus, {})


@pytest.mark.parametrize(
    ("pictures", "num_frames", "expected"),
    [
        ([0.5, 0.6, 0.7], 2, [0.5, 0.6]),
        ([0.5, 0.6, 0.7], 5, [0.5, 0.6, 0.7, 0.8, 0.9]),
        ([0.0, 0.1, 0.2, 0.9], 5, [0.0, 0.1, 0.2, 0.9, 1.0]),
        ([], 3, [0.0, 1 / 30, 2 / 30]),
        ([0.5], 3, [0.5, 0.5 + 1 / 30, 0.5 + 2 / 30]),
        ([], 0, []),
    ],
)
def test_frames_beyond_the_pictures_follow_at_the_median_interval(pictures, num_frames, expected):
    times = frame_times(np.array(pictures, dtype=float), num_frames)
    assert times.dtype == np.float64
    np.testing.assert_allclose(times, expected)
