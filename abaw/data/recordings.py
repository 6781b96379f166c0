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
from abaw.data.windows import Recording
from abaw.errors import InputError
from abaw.labels import IGNORE_INDEX

_FALLBACK_RATE: Final = 30.0
"""Frames a second of a video whose file doesn't say."""


def load_recordings(
    videos: Sequence[Video], sounds: Mapping[str, SoundTrack], class_names: tuple[str, ...]
) -> list[Recording]:
    """Read the labels of all videos, list their crops and put both on the raw videos' clocks.

    A video has as many frames as labels, or rows in the template, or decoded pictures. One warning says by
    how much the crops and the pictures differ from that.

    Args:
        videos: What `abaw.data.layout.scan` found.
        sounds: The sound of each raw video, by `Video.raw_id`.
        class_names: What every header must say.

    Raises:
        InputError: An annotation is malformed or has another header, or nothing says how long a video is.
    """
    recordings = []
    differences: dict[str, int] = {}
    for video in videos:
        sound = sounds.get(video.raw_id)
        crops = _crop_numbers(video.crops)
        pictures = len(sound.picture_times) if sound is not None else int(crops.max(initial=0))
        target = _read_target(video, class_names, video.num_frames or pictures)
        num_frames = len(target)
        has_crop = np.zeros(num_frames, dtype=np.bool_)
        has_crop[crops[crops <= num_frames] - 1] = True
        differences[video.video_id] = max(
            int((crops > num_frames).sum()), abs(pictures - num_frames) if sound is not None else 0
        )
        recordings.append(
            Recording(
                video_id=video.video_id,
                target=target,
                time=frame_times(sound.picture_times if sound is not None else np.zeros(0), num_frames),
                crops=video.crops,
                has_crop=has_crop,
                sound=sound,
                broken=torch.zeros(num_frames, dtype=torch.bool),
            )
        )
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


def _read_target(video: Video, class_names: tuple[str, ...], num_frames: int) -> NDArray[np.int64]:
    if video.annotation is None:
        if num_frames == 0:
            raise InputError(f"{video.video_id}: no template, raw video or crop says how many frames it has.")
        return np.full(num_frames, IGNORE_INDEX)
    annotation = read_annotation(video.annotation)
    if annotation.class_names != class_names:
        raise InputError(
            f"{video.annotation}, line 1: the classes {','.join(annotation.class_names)} are not the "
            f"{','.join(class_names)} of the other files."
        )
    return annotation.labels


def _crop_numbers(folder: Path | None) -> NDArray[np.int64]:
    """The numbers of a folder's crops, which count from 1."""
    names = os.listdir(folder) if folder is not None else []
    numbers = [int(name[:-4]) for name in names if name.endswith(".jpg") and name[:-4].isdigit()]
    return np.array([number for number in numbers if number > 0], dtype=np.int64)


def _warn_of_differences(differences: Mapping[str, int]) -> None:
    different = {video_id: count for video_id, count in differences.items() if count}
    if different:
        worst = max(different, key=different.__getitem__)
        rank_zero_warn(
            f"{len(different)} of {len(differences)} videos have more or fewer decoded pictures or "
            f"crops than frames; the labels' number rules. The worst is {worst}, by {different[worst]}.",
            category=UserWarning,
        )
