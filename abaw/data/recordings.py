"""From the files of a corpus to recordings: labels, clocks and which frames show a face."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from abaw.data.annotations import read_annotation
from abaw.data.audio import SoundTrack
from abaw.data.layout import Video
from abaw.data.windows import Recording, crop_name
from abaw.errors import InputError
from abaw.labels import IGNORE_INDEX

_FALLBACK_RATE: Final = 30.0
"""Frames a second of a video whose file doesn't say."""


def read_targets(videos: Sequence[Video], class_names: tuple[str, ...]) -> dict[str, NDArray[np.int64]]:
    """Read the labels of all annotated videos, int64 (N,), by `Video.video_id`.

    Args:
        videos: What `abaw.data.layout.scan` found.
        class_names: What every header must say.

    Raises:
        InputError: An annotation is malformed or has another header.
    """
    targets = {}
    for video in videos:
        if video.annotation is None:
            continue
        annotation = read_annotation(video.annotation)
        if annotation.class_names != class_names:
            raise InputError(
                f"{video.annotation}, line 1: the classes {','.join(annotation.class_names)} are not the "
                f"{','.join(class_names)} of the other files."
            )
        targets[video.video_id] = annotation.labels
    return targets


def load_recordings(
    videos: Sequence[Video],
    targets: Mapping[str, NDArray[np.int64]],
    sounds: Mapping[str, SoundTrack],
) -> list[Recording]:
    """List the crops of all videos and put frames and sound on one clock.

    A video has as many frames as labels, or rows in the template, or decoded pictures, or else the number of
    its last crop. One warning says by how much the crops and the pictures differ from that.

    Args:
        videos: What `abaw.data.layout.scan` found.
        targets: What `read_targets` read.
        sounds: The sound of each raw video, by `Video.raw_id`.
    """
    recordings = []
    differences: dict[str, int] = {}
    for video in videos:
        sound = sounds.get(video.raw_id)
        picture_times = np.zeros(0) if sound is None else sound.picture_times
        crops = _crop_numbers(video.crops)
        target = targets.get(video.video_id)
        if target is None:
            length = video.num_frames or len(picture_times) or int(crops.max(initial=0))
            target = np.full(length, IGNORE_INDEX)
        has_crop = np.zeros(len(target), dtype=np.bool_)
        has_crop[crops[crops <= len(target)] - 1] = True
        differences[video.video_id] = max(
            int((crops > len(target)).sum()),
            0 if sound is None else abs(len(picture_times) - len(target)),
        )
        recordings.append(
            Recording(
                video_id=video.video_id,
                target=target,
                time=frame_times(picture_times, len(target)),
                crops=video.crops,
                has_crop=has_crop,
                sound=sound,
                broken=torch.zeros(len(target), dtype=torch.bool),
            )
        )
    _warn_of_missing_crops(videos, recordings)
    _warn_of_differences(differences)
    # One piece of shared memory, not one a video: each would keep a file open.
    lengths = [len(recording) for recording in recordings]
    broken = torch.zeros(sum(lengths), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]
    return [replace(r, broken=part) for r, part in zip(recordings, broken.split(lengths), strict=True)]


def frame_times(picture_times: NDArray[np.float64], num_frames: int) -> NDArray[np.float64]:
    """When each frame is shown, float64 (N,), seconds.

    Args:
        picture_times: When the pictures that could be decoded are shown; what is missing at the end follows
            at the median interval, or at 30 frames a second where there are not two pictures.
        num_frames: N.
    """
    interval = float(np.median(np.diff(picture_times))) if len(picture_times) > 1 else 1 / _FALLBACK_RATE
    missing = np.arange(1, num_frames - len(picture_times) + 1)
    last = picture_times[-1] if len(picture_times) else -interval
    return np.concatenate([picture_times[:num_frames], last + interval * missing])


def _crop_numbers(folder: Path | None) -> NDArray[np.int64]:
    """The numbers of a folder's crops, which count from 1; a file of any other name is none."""
    names = os.listdir(folder) if folder is not None else []
    numbers = [(int(stem), name) for name in names if (stem := name.removesuffix(".jpg")).isdecimal()]
    return np.array([n for n, name in numbers if n > 0 and name == crop_name(n - 1)], dtype=np.int64)


def _warn_of_missing_crops(videos: Sequence[Video], recordings: Sequence[Recording]) -> None:
    missing = [video.video_id for video in videos if video.crops is None]
    empty = [r.video_id for r in recordings if r.crops is not None and not r.has_crop.any()]
    for names, what in ((missing, "crops folder"), (empty, f"crop called {crop_name(0)} and so on")):
        if names:
            rank_zero_warn(
                f"{len(names)} of {len(videos)} videos have no {what} (first: {', '.join(names[:3])}); "
                "their face counts as absent.",
                category=UserWarning,
            )


def _warn_of_differences(differences: Mapping[str, int]) -> None:
    different = {video_id: count for video_id, count in differences.items() if count}
    if different:
        worst = max(different, key=different.__getitem__)
        rank_zero_warn(
            f"{len(different)} of {len(differences)} videos have more or fewer decoded pictures or "
            f"crops than frames; the labels' number rules. The worst is {worst}, by {different[worst]}.",
            category=UserWarning,
        )
