"""From the files of a corpus to recordings: labels, clocks and which frames show a face."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from abaw.data.annotations import read_annotation
from abaw.data.audio import SoundTrack
from abaw.data.crops import CropFiles, crop_name, list_crops
from abaw.data.layout import Video
from abaw.data.windows import Recording
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


def read_crops(videos: Sequence[Video]) -> dict[str, CropFiles]:
    """List the crops of all videos that have a folder of them, by `Video.video_id`; no file is read.

    Raises:
        InputError: A folder can't be read, counts from 0, or has two files for one frame.

    Warns:
        UserWarning: Files there are no frame's crop, with their number.
    """
    crops = {video.video_id: list_crops(video.crops) for video in videos if video.crops is not None}
    odd = [files for files in crops.values() if files.others]
    if odd:
        rank_zero_warn(
            f"{sum(len(files.others) for files in odd)} files in {len(odd)} crops folders are no crop called "
            f"{crop_name(0)} and so on (first: {odd[0].folder}/{odd[0].others[0]}); they are passed over.",
            category=UserWarning,
        )
    return crops


def load_recordings(
    videos: Sequence[Video],
    targets: Mapping[str, NDArray[np.int64]],
    sounds: Mapping[str, SoundTrack],
    crops: Mapping[str, CropFiles],
    tell: bool = True,
) -> list[Recording]:
    """Put the crops and the sound of all videos on the clock of their frames.

    A video has as many frames as labels, or rows in the template, or decoded pictures, or else the number of
    its last crop. One warning says by how much the crops and the pictures differ from that.

    Args:
        videos: What `abaw.data.layout.scan` found.
        targets: What `read_targets` read.
        sounds: The sound of each raw video, by `Video.raw_id`.
        crops: What `read_crops` listed.
        tell: Whether to warn of what is missing; if not, the caller does.
    """
    recordings = []
    differences: dict[str, int] = {}
    for video in videos:
        sound = sounds.get(video.raw_id)
        picture_times = np.zeros(0) if sound is None else sound.picture_times
        files = crops.get(video.video_id, CropFiles.none(0))
        target = targets.get(video.video_id)
        if target is None:
            length = video.num_frames or len(picture_times) or len(files.pattern)
            target = np.full(length, IGNORE_INDEX)
        differences[video.video_id] = max(
            int(files.present[len(target) :].sum()),
            0 if sound is None else abs(len(picture_times) - len(target)),
        )
        recordings.append(
            Recording(
                video_id=video.video_id,
                target=target,
                time=frame_times(picture_times, len(target)),
                crops=files.of(len(target)),
                sound=sound,
                broken=torch.zeros(len(target), dtype=torch.bool),
            )
        )
    if tell:
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


def _warn_of_missing_crops(videos: Sequence[Video], recordings: Sequence[Recording]) -> None:
    missing = [video.video_id for video in videos if video.crops is None]
    empty = [r.video_id for r in recordings if r.crops.folder and not r.crops.present.any()]
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
