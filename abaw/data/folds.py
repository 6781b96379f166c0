"""Cross-validation over raw videos."""

from collections.abc import Sequence
from dataclasses import replace

from abaw.data.layout import Video
from abaw.data.partition import partition
from abaw.errors import InputError


def assign_folds(videos: Sequence[Video], sizes: Sequence[int], folds: int, fold: int) -> list[Video]:
    """Regroup the annotated videos into folds of about as many frames; the test set stays as it is.

    Persons of one raw video are always in the same fold: they share its sound and its scene. The folds depend
    on names and sizes alone.

    Args:
        videos: The videos.
        sizes: How many frames each has.
        folds: How many folds.
        fold: Which of them becomes the validation set, from 0; the others become the training set.

    Returns:
        The same videos, in the same order, with their new splits.

    Raises:
        InputError: There are more folds than raw videos.
    """
    frames: dict[str, int] = {}
    for video, size in sorted(zip(videos, sizes, strict=True), key=lambda pair: pair[0].raw_id):
        if video.split != "test":
            frames[video.raw_id] = frames.get(video.raw_id, 0) + size
    if folds > len(frames):
        raise InputError(f"folds must be at most {len(frames)}, the number of raw videos, not {folds}.")
    raw_ids = list(frames)
    chosen = {raw_ids[index] for index in partition(list(frames.values()), folds)[fold]}
    return [
        video
        if video.split == "test"
        else replace(video, split="validation" if video.raw_id in chosen else "train")
        for video in videos
    ]
