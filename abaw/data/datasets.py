"""Windows for training, chunks for evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from abaw.data.batch import Batch
from abaw.data.samplers import WindowSampler
from abaw.data.windows import Sample, collate
from abaw.errors import InputError


class AnyRecording(Protocol):
    """What windows are cut from: one video of N = ``len(recording)`` frames, in whatever form."""

    @property
    def video_id(self) -> str:
        """The video's name."""

    @property
    def target(self) -> NDArray[np.int64]:
        """int64 (N,), class index, ``IGNORE_INDEX`` where not annotated."""

    @property
    def num_broken(self) -> int:
        """How many of its crops turned out to be unreadable."""

    @property
    def time(self) -> NDArray[np.float64]:
        """float64 (N,), when each frame is shown, in seconds on the video's own clock."""

    def __len__(self) -> int: ...


RecordingT = TypeVar("RecordingT", bound=AnyRecording)
_RecordingT = TypeVar("_RecordingT", bound=AnyRecording, contravariant=True)


class Reader(Protocol[_RecordingT]):
    """Cuts windows out of recordings of one form."""

    def read(
        self, recording: _RecordingT, frames: NDArray[np.int64], rng: np.random.Generator | None = None
    ) -> Sample:
        """Read a window of evenly spaced frames.

        Args:
            recording: The video.
            frames: int64 (T,), ascending frame numbers, then -1 where padded; the first is a frame.
            rng: Where random changes come from; None for none.

        Returns:
            What `Batch` holds, without the leading B.
        """

    def padding(self, num_frames: int) -> Sample:
        """A window of T = ``num_frames`` that holds no frame at all."""


class Loader(DataLoader[Any]):
    """A ``DataLoader`` that says how many crops could not be read, when it has been iterated over.

    It says so again after a later iteration that found more. What a worker finds wrong with a file is told as
    where there are no workers: in one line.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except (InputError, OSError) as error:
            # PyTorch puts a worker's stack trace in front of the line; it stays as the cause.
            trace, _, line = str(error).rpartition(f"{type(error).__name__}: ")
            if not trace.startswith("Caught "):
                raise
            raise type(error)(line.strip()) from error
        finally:
            dataset = self.dataset
            assert isinstance(dataset, (WindowDataset, ChunkDataset))
            broken = {r.video_id: n for r in dataset.recordings if (n := r.num_broken)}
            if (total := sum(broken.values())) > dataset.num_told:
                dataset.num_told = total
                warnings.warn(
                    f"{total} crops of {len(broken)} videos can't be read as pictures "
                    f"(first: {next(iter(broken))}); their frames count as without a face.",
                    stacklevel=2,
                )


class WindowLoader(Loader):
    """The `Loader` of training windows, which goes on within an epoch after a checkpoint.

    Lightning saves and restores the state. The next iteration leaves out the batches that the saved one gave,
    unread, if it is over the same epoch: its windows are then each seen once.
    """

    _epoch = 0
    _batches = 0
    _is_restored = False

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many batches of it were given."""
        return {"epoch": self._epoch, "batches": self._batches}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Let the next iteration go on from there."""
        self._epoch, self._batches = state_dict["epoch"], state_dict["batches"]
        self._is_restored = True

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        sampler, batch_size = self.sampler, self.batch_size
        if not isinstance(sampler, WindowSampler):  # ``Trainer(overfit_batches=…)`` puts in its own
            yield from super().__iter__()
            return
        assert batch_size is not None
        # Lightning can end an epoch before its last batch: only its number tells that the saved one is over.
        goes_on = self._is_restored and sampler.epoch == self._epoch and self._batches < len(self)
        self._is_restored = False
        self._epoch = sampler.epoch
        self._batches = self._batches if goes_on else 0
        sampler.skip(self._batches * batch_size)
        for batch in super().__iter__():
            self._batches += 1
            yield batch


class WindowDataset(Dataset[Sample], Generic[RecordingT]):
    """Training windows at random places; each is a function of (seed, epoch, index) alone.

    An epoch has ``ceil(N / stride)`` windows of each video. A start is drawn uniformly from all at which the
    window fits, so that every frame is reached; a video that is shorter than the window is one padded window.

    Args:
        recordings: The videos.
        reader: Reads the windows.
        window: T, frames of a window.
        frame_step: Frames from one frame of the window to the next, in all videos or in each.
        stride: Frames of a video for each window of an epoch; those that a window spans if not said.
        balanced: Draw a class, of those there are, then a frame of it, then a window that holds the frame.
        seed: Of all draws.
    """

    def __init__(
        self,
        recordings: Sequence[RecordingT],
        reader: Reader[RecordingT],
        window: int,
        frame_step: int | Sequence[int] = 1,
        stride: int | None = None,
        balanced: bool = False,
        seed: int = 0,
    ) -> None:
        self.recordings = list(recordings)
        self.reader = reader
        self.num_told = 0
        self.window = window
        self.frame_steps = [frame_step] * len(recordings) if isinstance(frame_step, int) else frame_step
        self.seed = seed
        lengths = zip(self.recordings, self.frame_steps, strict=True)
        counts = [-(-len(recording) // (stride or window * step)) for recording, step in lengths]
        self._owner = np.repeat(np.arange(len(counts)), counts)
        self._frames_of_class = self._group_by_class() if balanced else None

    def __len__(self) -> int:
        return len(self._owner)

    def __getitem__(self, key: tuple[int, int] | int) -> Sample:
        """Read window ``index`` of an epoch; ``key`` is (epoch, index), or the index alone in epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng((self.seed, epoch, index))
        if self._frames_of_class is None:
            owner = int(self._owner[index])
            start = int(rng.integers(self._last_start(owner) + 1))
        else:
            owner, start = self._draw_balanced(self._frames_of_class, rng)
        recording = self.recordings[owner]
        frames = start + self.frame_steps[owner] * np.arange(self.window)
        return self.reader.read(recording, np.where(frames < len(recording), frames, -1), rng)

    def _last_start(self, owner: int) -> int:
        length, step = len(self.recordings[owner]), self.frame_steps[owner]
        fits = length - 1 - (self.window - 1) * step
        # Each of the interleaved sequences must be reached, if need be by a padded window.
        return max(fits, min(step, length) - 1)

    def _draw_balanced(
        self, frames_of_class: list[NDArray[np.int64]], rng: np.random.Generator
    ) -> tuple[int, int]:
        frames = frames_of_class[rng.integers(len(frames_of_class))]
        owner, frame = frames[rng.integers(len(frames))]
        step = self.frame_steps[owner]
        # The frame is the window's k-th, for any k whose start is one that could be drawn.
        excess = int(frame) - self._last_start(int(owner))
        first = max(0, -(-excess // step))
        last = min(self.window - 1, int(frame) // step)
        return int(owner), int(frame) - int(rng.integers(first, last + 1)) * step

    def _group_by_class(self) -> list[NDArray[np.int64]]:
        """For each class that occurs, int64 (n, 2): recording and frame of all its frames."""
        target = np.concatenate([recording.target for recording in self.recordings])
        owner = np.repeat(np.arange(len(self.recordings)), [len(r) for r in self.recordings])
        frame = np.concatenate([np.arange(len(recording)) for recording in self.recordings])
        places = np.stack([owner, frame], axis=1)
        return [places[target == label] for label in np.unique(target[target >= 0])]


class ChunkDataset(Dataset[Batch], Generic[RecordingT]):
    """Whole videos in order: batches of consecutive, non-overlapping chunks of one video.

    Item i is a collated `Batch` of up to ``batch_size`` chunks of ``chunk`` consecutive frames; only a
    video's last chunk is padded. Use it with ``DataLoader(batch_size=None,
    sampler=VideoShardSampler(dataset))``. Item ``None`` is a batch of one chunk without any frame, for a
    process that has no video.

    Args:
        recordings: The videos.
        reader: Reads the chunks.
        chunk: T, frames of a chunk.
        batch_size: The most chunks in a batch.
        frame_steps: Each video's own frame step, where they have one: its chunks are so many times as long,
            and its batches say so.
    """

    def __init__(
        self,
        recordings: Sequence[RecordingT],
        reader: Reader[RecordingT],
        chunk: int,
        batch_size: int,
        frame_steps: Sequence[int] | None = None,
    ) -> None:
        self.recordings = list(recordings)
        self.reader = reader
        self.num_told = 0
        self.chunk = chunk
        self.batch_size = batch_size
        self.num_frames = [len(recording) for recording in self.recordings]
        self.frame_steps = frame_steps
        self._chunks = [chunk * step for step in frame_steps or [1] * len(self.recordings)]
        sizes = zip(self.num_frames, self._chunks, strict=True)
        counts = [-(-count // (its_chunk * batch_size)) for count, its_chunk in sizes]
        self._ends = np.cumsum(counts)
        self._begins = self._ends - counts

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def batches_of(self, video: int) -> range:
        """The items that hold one video, in order."""
        return range(int(self._begins[video]), int(self._ends[video]))

    def __getitem__(self, index: int | None) -> Batch:
        if index is None:
            return collate([self.reader.padding(self.chunk)])
        owner = int(np.searchsorted(self._ends, index, side="right"))
        recording = self.recordings[owner]
        chunk = self._chunks[owner]
        first = (index - int(self._begins[owner])) * self.batch_size * chunk
        last = min(first + self.batch_size * chunk, len(recording))
        chunks = []
        for start in range(first, last, chunk):
            frames = np.arange(start, start + chunk)
            chunks.append(self.reader.read(recording, np.where(frames < len(recording), frames, -1)))
        batch = collate(chunks)
        if self.frame_steps is not None:
            batch["frame_step"] = [self.frame_steps[owner]] * len(chunks)
        return batch
