"""What the data modules share: training windows, whole videos in chunks, and how they are loaded."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal

import cv2
import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.data.datasets import ChunkDataset, Loader, Reader, RecordingT, WindowDataset, WindowLoader
from abaw.data.folds import assign_folds
from abaw.data.layout import Split, Video
from abaw.data.places import TEMPLATE_ENDING, choose_template
from abaw.data.rates import check_frame_rate, frame_steps, median_rate, rate_of, warn_of_other_rates
from abaw.data.samplers import VideoShardSampler, WindowSampler
from abaw.data.windows import collate
from abaw.errors import InputError
from abaw.files import expand, visible
from abaw.ranges import MOST_FRAMES, MOST_IN_BATCH, MOST_SEED, MOST_WORKERS, check_count


class WindowDataModule(pl.LightningDataModule, ABC, Generic[RecordingT]):
    """Windows for training, whole videos in chunks for evaluation, whatever the videos are read from.

    A subclass hands its videos to `_set_videos` in ``setup``, and says by `_reader` how windows are cut out
    of them. One seed draws the same windows from the same videos in any form. Works without a Trainer too:
    ``setup()``, then iterate over ``train_dataloader()``.

    Args:
        root: The folder that holds the videos.
        window: T, frames of a training window. A chunk has ``window * frame_step`` frames.
        stride: Frames of a video for each training window of an epoch; ``window * frame_step`` if not said.
        batch_size: Windows, or chunks, in a batch.
        num_workers: Processes that read batches, for each loader; 0 reads in this one.
        frame_step: Frames from one frame of a training window to the next.
        frame_rate: Frames a second of a window, instead of ``frame_step``: each video gets the frame step
            that comes nearest to it, so that windows last about ``window / frame_rate`` seconds in each. With
            30, videos of 50 and 60 frames a second are seen at 25 and 30, and one of 15 at 15: no frame is
            shown twice.
        balanced: Whether training windows are drawn by class, see `abaw.data.datasets.WindowDataset`.
        folds: Regroup the annotated videos into this many folds, instead of the official split.
        fold: The one that is validated on, from 0.
        template: The submission template, if it isn't in ``root``.
        seed: Of windows and order.

    Raises:
        InputError: An argument is out of range.
    """

    _HINTS: ClassVar[dict[Split, str]]
    """What to do where a split has no video."""

    def __init__(
        self,
        root: str | Path,
        *,
        window: int,
        stride: int | None,
        batch_size: int,
        num_workers: int,
        frame_step: int,
        balanced: bool,
        folds: int | None,
        fold: int,
        template: str | Path | None,
        seed: int,
        frame_rate: float | None = None,
    ) -> None:
        super().__init__()
        check_frame_rate(frame_rate, frame_step)
        check_count(1, MOST_FRAMES, window=window, stride=stride, frame_step=frame_step)
        check_count(1, MOST_IN_BATCH, batch_size=batch_size)
        check_count(0, MOST_WORKERS, num_workers=num_workers)
        check_count(0, MOST_SEED, seed=seed)
        check_count(2, MOST_FRAMES, folds=folds)
        check_count(0, MOST_FRAMES, fold=fold)
        if folds is None and fold > 0:
            raise InputError(f"fold is {fold}, but folds is not set; set folds to their number.")
        if folds is not None and fold >= folds:
            raise InputError(f"fold must be in 0…{folds - 1}, not {fold}.")
        self.root = expand(root)
        self.window = window
        self.stride = stride
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.frame_step = frame_step
        self.frame_rate = frame_rate
        self._trained_rate: float | None = None
        self._has_told_rates = False
        self.balanced = balanced
        self.folds = folds
        self.fold = fold
        self.template = None if template is None else expand(template)
        self.seed = seed
        self._videos: list[Video] = []
        self._splits: list[Split] = []
        self._recordings: list[RecordingT] = []

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """The C class names; needs no ``setup``."""

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.class_names)

    @property
    def class_counts(self) -> Tensor:
        """int64 (C,): the training frames of each class; needs no ``setup``."""
        labels = np.concatenate(self.training_targets())
        return torch.from_numpy(np.bincount(labels[labels >= 0], minlength=self.num_classes))

    @property
    def template_path(self) -> Path | None:
        """The submission template, as given or as found in ``root``; None if there isn't one."""
        return self.template or choose_template(self.root, visible(self.root, TEMPLATE_ENDING))

    def training_targets(self) -> list[NDArray[np.int64]]:
        """The labels of each training video, int64 (N,), -1 where not annotated; needs no ``setup``.

        Raises:
            InputError: There is no training video.
        """
        self.setup("fit")
        return [recording.target for recording in self._select("train")]

    def train_dataloader(self) -> WindowLoader:
        """Windows of the training videos, at other places in every epoch."""
        recordings = self._select_annotated("train")
        dataset = WindowDataset(
            recordings,
            self._reader(),
            self.window,
            frame_step=self._frame_steps(recordings),
            stride=self.stride,
            balanced=self.balanced,
            seed=self.seed,
        )
        return WindowLoader(
            dataset,
            sampler=WindowSampler(dataset, seed=self.seed),
            batch_size=self.batch_size,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
            **self._loading(),
        )

    def val_dataloader(self) -> Loader:
        """The validation videos, whole, in chunks."""
        return self._chunk_loader(self._select_annotated("validation"))

    def test_dataloader(self) -> Loader:
        """The validation videos: the test set's labels are not public."""
        return self.val_dataloader()

    def predict_dataloader(self) -> Loader:
        """The videos of the test set, whole, in chunks."""
        return self._chunk_loader(self._select("test"))

    @abstractmethod
    def _reader(self) -> Reader[RecordingT]:
        """What cuts windows out of the videos."""

    def _set_videos(self, videos: Sequence[Video], recordings: Sequence[RecordingT]) -> None:
        """Take the videos and, in the same order, what their windows are cut from; regroup them if asked."""
        self._recordings = list(recordings)
        self._videos = list(videos)
        self._splits = self._split(videos, [len(recording) for recording in recordings])

    def _split(self, videos: Sequence[Video], lengths: Sequence[int]) -> list[Split]:
        """Which set each video belongs to; ``lengths`` are their numbers of frames."""
        if self.folds is not None:
            videos = assign_folds(videos, lengths, self.folds, self.fold)
        return [video.split for video in videos]

    def _select(self, split: Split) -> list[RecordingT]:
        if not self._recordings:
            raise RuntimeError("call setup() first")
        recordings = zip(self._splits, self._recordings, strict=True)
        chosen = [recording for its_split, recording in recordings if its_split == split]
        if not chosen:
            raise self._no_video(split)
        return chosen

    def _no_video(self, split: Split) -> InputError:
        return InputError(f"{self.root}: holds no {split} video; {self._HINTS[split]}.")

    def _select_annotated(self, split: Literal["train", "validation"]) -> list[RecordingT]:
        recordings = self._select(split)
        if not any((recording.target >= 0).any() for recording in recordings):
            kind = {"train": "training", "validation": "validation"}[split]
            raise InputError(
                f"{self.root}: no annotated frame in the {kind} videos (first: {recordings[0].video_id}); "
                "all labels are -1, get the annotations again."
            )
        return recordings

    def _chunk_loader(self, recordings: Sequence[RecordingT]) -> Loader:
        self._tell_of_other_rates(recordings)
        own_steps = None if self.frame_rate is None else self._frame_steps(recordings)
        chunk = self.window * self.frame_step
        dataset = ChunkDataset(recordings, self._reader(), chunk, self.batch_size, own_steps)
        return Loader(dataset, sampler=VideoShardSampler(dataset), batch_size=None, **self._loading())

    def _frame_steps(self, recordings: Sequence[RecordingT]) -> list[int]:
        return frame_steps([recording.time for recording in recordings], self.frame_step, self.frame_rate)

    def _rates(self, recordings: Sequence[RecordingT]) -> list[float]:
        """Frames of a window a second, of each video."""
        steps = self._frame_steps(recordings)
        return [rate_of(r.time) / step for r, step in zip(recordings, steps, strict=True)]

    def _training_rate(self) -> dict[str, float]:
        """What a checkpoint keeps: the median rate of the training videos, as far as there are any."""
        splits = zip(self._splits, self._recordings, strict=True)
        rate = median_rate(self._rates([recording for split, recording in splits if split == "train"]))
        return {} if rate is None else {"frame_rate": rate}

    def _tell_of_other_rates(self, recordings: Sequence[RecordingT]) -> None:
        if not self._has_told_rates and self._trained_rate is not None:
            self._has_told_rates = True
            names = [recording.video_id for recording in recordings]
            warn_of_other_rates(dict(zip(names, self._rates(recordings), strict=True)), self._trained_rate)

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": _start_worker,
            # Its own, so that what a model draws doesn't depend on when loaders are started.
            "generator": torch.Generator(),
        }


def _start_worker(worker: int) -> None:
    # Each worker is one of many: OpenCV's own threads would fight over the cores, and don't survive a fork.
    cv2.setNumThreads(0)
    # A signal to the whole group of processes is the main one's to answer, which still wants batches. It ends
    # workers itself, if need be by a signal; so that is heeded the second time, when the first didn't help.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
