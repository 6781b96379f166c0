"""One window of one video: its crops, its sound, its clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import cv2
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

from abaw.data.audio import SAMPLE_RATE, SoundTrack
from abaw.data.augment import Augmentation
from abaw.data.batch import Batch
from abaw.data.crops import CropFiles, read_crop
from abaw.labels import IGNORE_INDEX
from abaw.ranges import MOST_PIXELS, check_count, check_memory, check_number

# What a window of sound may last because of holes in a video's timestamps: so many seconds, or so many times
# as long as its windows usually are. A recording in bursts is within, a device that was off is not.
_LONGEST_CLIP: Final = 30.0
_MOST_STRETCHED: Final = 8.0
_MUCH_LONGER: Final = 4.0

Sample = dict[str, Any]
"""What `Batch` holds, of one window, without the leading B."""


@dataclass(frozen=True, eq=False)
class Recording:
    """What windows are cut from: one video of N frames.

    Attributes:
        video_id: The video's name.
        target: int64 (N,), class index, ``IGNORE_INDEX`` where not annotated.
        time: float64 (N,), when each frame is shown, in seconds on the video's own clock.
        crops: The files of the crops.
        sound: The sound track; None where there is no raw video.
        broken: bool (N,) in memory that processes share: crops that turned out to be unreadable.
    """

    video_id: str
    target: NDArray[np.int64]
    time: NDArray[np.float64]
    crops: CropFiles
    sound: SoundTrack | None
    broken: Tensor

    def __len__(self) -> int:
        return len(self.target)

    @property
    def num_broken(self) -> int:
        """How many crops turned out to be unreadable."""
        return int(self.broken.sum())


@dataclass(frozen=True)
class WindowReader:
    """Cuts windows out of recordings.

    Args:
        num_samples: S, the same for the whole run.
        image_size: Height and width of the crops; others are resized.
        audio_context: Seconds of sound before the first frame and after the last.
        augmentation: Changes to the pictures and the sound, or None.
    """

    num_samples: int
    image_size: int
    audio_context: float
    augmentation: Augmentation | None = None

    def read(
        self, recording: Recording, frames: NDArray[np.int64], rng: np.random.Generator | None = None
    ) -> Sample:
        """Read a window.

        Args:
            recording: The video.
            frames: int64 (T,), ascending frame numbers, then -1 where padded; the first is a frame.
            rng: Where the augmentation's draw comes from; None for no augmentation.

        Returns:
            What `Batch` holds, without the leading B.
        """
        sample = self.padding(len(frames))
        present = frames[frames >= 0]
        time = recording.time[present]
        pictures = _channels_last(sample["video"]).numpy()
        places = [p for p, frame in enumerate(present) if self._read_crop(recording, int(frame), pictures[p])]
        start, sound = self._read_sound(recording, float(time[0]), rng)
        if self.augmentation is not None and rng is not None:
            pictures[places] = self.augmentation.pictures(pictures[places], rng)

        count = len(present)
        sample["video_mask"][places] = True
        sample["audio"] = torch.from_numpy(sound)
        if recording.sound is not None:
            heard = time < start + self.num_samples / SAMPLE_RATE
            sample["audio_mask"][:count] = torch.from_numpy(recording.sound.covers(time) & heard)
        sample["time"][:count] = torch.from_numpy(time - start)
        sample["target"][:count] = torch.from_numpy(recording.target[present])
        sample["frame"][:count] = torch.from_numpy(present)
        return sample | {
            "video_id": recording.video_id,
            "audio_start": start,
            "num_frames": len(recording),
        }

    def padding(self, num_frames: int) -> Sample:
        """A window of T = ``num_frames`` that holds no frame at all."""
        return {
            "video": _channels_first(
                torch.zeros(num_frames, self.image_size, self.image_size, 3, dtype=torch.uint8)
            ),
            "video_mask": torch.zeros(num_frames, dtype=torch.bool),
            "audio": torch.zeros(self.num_samples),
            "audio_mask": torch.zeros(num_frames, dtype=torch.bool),
            "time": torch.zeros(num_frames),
            "target": torch.full((num_frames,), IGNORE_INDEX),
            "frame": torch.full((num_frames,), -1),
            "video_id": "",
            "audio_start": 0.0,
            "num_frames": 0,
        }

    def _read_sound(
        self, recording: Recording, first_frame: float, rng: np.random.Generator | None
    ) -> tuple[float, NDArray[np.float32]]:
        """When the clip's first sample is, and the clip, (S,)."""
        track = recording.sound
        # The clip starts on a sample of the track's own grid, so that nothing is interpolated.
        origin = 0.0 if track is None else track.start
        first = round((first_frame - self.audio_context - origin) * SAMPLE_RATE)
        start = origin + first / SAMPLE_RATE
        if track is None:
            return start, np.zeros(self.num_samples, dtype=np.float32)
        sound = track.read(first, self.num_samples).astype(np.float32) / np.float32(32768)
        if self.augmentation is not None and rng is not None:
            changed = self.augmentation.sound(sound, rng)
            # What the track doesn't cover stays zero, noise or not.
            for stretch in track.stretches(first, self.num_samples):
                sound[stretch] = changed[stretch]
        return start, sound

    def _read_crop(self, recording: Recording, frame: int, picture: NDArray[np.uint8]) -> bool:
        """Read a frame's crop into ``picture`` (H, W, 3), and say whether there is one."""
        path = recording.crops.path(frame)
        if path is None:
            return False
        crop = read_crop(path)
        if crop is None:
            recording.broken[frame] = True
            return False
        if crop.shape[:2] != picture.shape[:2]:
            size = picture.shape[1::-1]
            crop = cast(NDArray[np.uint8], cv2.resize(crop, size, interpolation=cv2.INTER_AREA))
        cv2.cvtColor(crop, cv2.COLOR_BGR2RGB, dst=picture)
        return True


def clip_samples(
    times: Sequence[NDArray[np.float64]], span: int | Sequence[int], audio_context: float
) -> int:
    """S: how many samples hold the sound of the longest window of a corpus.

    That is the one of the lowest frame rate, or one with holes in its timestamps, such as a recording in
    bursts. A window of more than 30 seconds doesn't count where that is more than eight times what its
    video's median interval says: it would make all clips that long. `warn_of_clips` tells what doesn't fit.

    Args:
        times: When the frames of each video are shown, float64 (N,), seconds.
        span: Frames from a window's first to its last, of all videos or of each.
        audio_context: Seconds of sound before the first frame and after the last.
    """
    spans = [span] * len(times) if isinstance(span, int) else span
    seconds = 0.0
    for time, its_span in zip(times, spans, strict=True):
        reach = min(its_span, len(time) - 1)
        if reach > 0:
            windows = time[reach:] - time[:-reach]
            usual = reach * float(np.median(np.diff(time)))
            bound = max(_LONGEST_CLIP, _MOST_STRETCHED * usual)
            longest = float(windows.max())
            if longest > bound:
                longest = max(float(windows[windows <= bound].max(initial=0)), 2 * usual)
            seconds = max(seconds, longest)
    return math.ceil(SAMPLE_RATE * (seconds + 2 * audio_context))


def warn_of_clips(recordings: Sequence[Recording], chunks: Sequence[int], reader: WindowReader) -> None:
    """Warn of frames whose sound doesn't fit into their clip, and of a clip that holes make long.

    Args:
        recordings: The videos.
        chunks: Frames of a chunk of each.
        reader: Reads the chunks.
    """
    clip = reader.num_samples / SAMPLE_RATE - 2 * reader.audio_context
    unheard = {
        recording.video_id: count
        for recording, chunk in zip(recordings, chunks, strict=True)
        if (count := _unheard(recording, chunk, reader))
    }
    if unheard:
        worst = max(unheard, key=unheard.__getitem__)
        rank_zero_warn(
            f"the voice of {sum(unheard.values())} frames of {len(unheard)} videos counts as absent: holes "
            f"in timestamps put it behind the {clip:.3g} s of sound that a window has. The worst is {worst}, "
            f"with {unheard[worst]}.",
            category=UserWarning,
        )
    # What these videos ask for: a run can ask for more.
    times, spans = [recording.time for recording in recordings], [chunk - 1 for chunk in chunks]
    longest = clip_samples(times, spans, 0.0) / SAMPLE_RATE
    evenly = [np.arange(len(time)) * np.median(np.diff(time)) if len(time) > 1 else time for time in times]
    usual = clip_samples(evenly, spans, 0.0) / SAMPLE_RATE
    if longest > _MUCH_LONGER * usual:
        rank_zero_warn(
            f"each window carries {longest:.3g} s of sound, since some last so long by holes in timestamps; "
            f"most last {usual:.2g} s. That takes memory and time; spare it by leaving such videos out.",
            category=UserWarning,
        )


def _unheard(recording: Recording, chunk: int, reader: WindowReader) -> int:
    if recording.sound is None or recording.sound.is_silent:
        return 0
    first = np.arange(len(recording)) // chunk * chunk
    late = recording.time - recording.time[first] >= reader.num_samples / SAMPLE_RATE - reader.audio_context
    return int(recording.sound.covers(recording.time[late]).sum()) if late.any() else 0


def collate(samples: Sequence[Sample]) -> Batch:
    """Windows to a batch: tensors are stacked, the rest becomes lists."""
    columns = {key: [sample[key] for sample in samples] for key in samples[0]}
    batch = {key: _stack(c) if isinstance(c[0], Tensor) else c for key, c in columns.items()}
    return cast(Batch, batch)


def _stack(tensors: list[Tensor]) -> Tensor:
    # In a worker, `default_collate` stacks in memory that processes share: nothing is copied again.
    if tensors[0].dim() == 4:  # pictures: as they lie in memory, which is several times faster
        return _channels_first(default_collate([_channels_last(tensor) for tensor in tensors]))
    stacked: Tensor = default_collate(tensors)
    return stacked


def _channels_first(pictures: Tensor) -> Tensor:
    """A view (…, 3, H, W) of (…, H, W, 3)."""
    return pictures.movedim(-1, -3)


def _channels_last(pictures: Tensor) -> Tensor:
    """A view (…, H, W, 3) of (…, 3, H, W)."""
    return pictures.movedim(-3, -1)


def check_reading(window: int, batch_size: int, image_size: int, audio_context: float) -> None:
    """Check how a window's pictures and sound are to be read.

    Raises:
        InputError: A number is out of range, or memory can't hold the pictures of a batch.
    """
    check_count(1, MOST_PIXELS, image_size=image_size)
    check_number(0, 3600, audio_context=audio_context)
    sizes = {"batch_size": batch_size, "window": window, "image_size": image_size}
    check_memory(3 * batch_size * window * image_size**2, **sizes)
