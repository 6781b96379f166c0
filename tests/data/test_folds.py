from pathlib import Path

import pytest

from abaw.data.folds import assign_folds
from abaw.data.layout import Video
from abaw.errors import InputError


def video(video_id: str, raw_id: str, split: str = "train") -> Video:
    annotation = None if split == "test" else Path(f"{video_id}.txt")
    return Video(video_id, split, raw_id, annotation, crops=None, raw=None)


VIDEOS = [
    video("a", "a"),
    video("b_left", "b"),
    video("b_right", "b", "validation"),
    video("c", "c", "validation"),
    video("d", "d"),
    video("e", "e"),
    video("t", "b", "test"),
]
SIZES = [100, 60, 60, 110, 50, 60, 1000]


def test_folds_part_the_annotated_videos_by_raw_video():
    validated = []
    for fold in range(3):
        grouped = assign_folds(VIDEOS, SIZES, folds=3, fold=fold)
        assert [v.video_id for v in grouped] == [v.video_id for v in VIDEOS]
        assert grouped[-1] == VIDEOS[-1]
        chosen = {v.raw_id for v in grouped if v.split == "validation"}
        assert chosen.isdisjoint(v.raw_id for v in grouped if v.split == "train")
        validated += [v.video_id for v in grouped if v.split == "validation"]
        frames = sum(size for v, size in zip(grouped, SIZES, strict=True) if v.split == "validation")
        assert 120 <= frames <= 160  # 440 in all
    assert sorted(validated) == ["a", "b_left", "b_right", "c", "d", "e"]


def test_folds_do_not_depend_on_the_order_of_the_videos():
    def chosen(videos, sizes):
        return {v.video_id for v in assign_folds(videos, sizes, 3, 1) if v.split == "validation"}

    assert chosen(VIDEOS, [50] * 7) == chosen(VIDEOS[::-1], [50] * 7)


def test_more_folds_than_raw_videos():
    with pytest.raises(InputError, match="at most 5"):
        assign_folds(VIDEOS, SIZES, folds=6, fold=0)
