"""Features that were computed before, for Lightning."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn

from abaw.data.annotations import read_annotation
from abaw.data.base import WindowDataModule
from abaw.data.feature_check import MODALITIES
from abaw.data.feature_index import encoders_trained_on, label_files, read_index
from abaw.data.features import FeatureReader, FeatureRecording, read_header
from abaw.data.layout import Split, Video
from abaw.errors import InputError
from abaw.files import composed, expand

_FREE: Final = ("dtype", "batch_size", "compile", "num_samples")


class FeatureDataModule(WindowDataModule[FeatureRecording]):
    """Windows of features that ``abaw extract`` wrote, whole videos in chunks for evaluation.

    Stands in for the data module that the features were made of: the same videos, splits and folds, and the
    same windows for the same seed. Batches hold ``visual_features`` and ``audio_features``, of the type that
    they are kept in, instead of ``video`` and ``audio``. The files are mapped into memory; of a window its
    own frames are read and nothing else.

    Args:
        root: The folder that ``abaw extract`` wrote.
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
        InputError: An argument is out of range, or (by the methods) something is wrong with the files.
    """

    _HINTS: ClassVar[dict[Split, str]] = {
        "train": "extract the features of a corpus that has some",
        "validation": "extract the features of a corpus that has some, or set folds",
        "test": "extract the features of a corpus that has a test list or a template",
    }

    def __init__(
        self,
        root: str | Path,
        window: int = 64,
        stride: int | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        frame_step: int = 1,
        balanced: bool = False,
        folds: int | None = None,
        fold: int = 0,
        template: str | Path | None = None,
        seed: int = 0,
        frame_rate: float | None = None,
    ) -> None:
        super().__init__(
            root,
            window=window,
            stride=stride,
            batch_size=batch_size,
            num_workers=num_workers,
            frame_step=frame_step,
            frame_rate=frame_rate,
            balanced=balanced,
            folds=folds,
            fold=fold,
            template=template,
            seed=seed,
        )
        # A checkpoint holds plain types alone.
        root = str(self.root)
        template = template if template is None else str(self.template)
        self.save_hyperparameters(logger=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C class names, from one file; needs no ``setup``."""
        return tuple(read_header(read_index(self.root)[0]).class_names)

    @property
    def encoders_trained_on(self) -> dict[str, list[str]]:
        """The videos that the features' encoders have learned from, see `abaw.trained_on`."""
        return encoders_trained_on(self.root)

    def setup(self, stage: str | None = None) -> None:
        """Open all files, for every stage at once."""
        if self._recordings:
            return
        recordings = [FeatureRecording(path) for path in read_index(self.root)]
        first, sizes = recordings[0], _sizes(recordings[0])
        for recording in recordings:
            difference = recording.header.difference(first.header, "class_names", "encoders", "settings")
            if difference is None and _sizes(recording) != sizes:
                difference = f"its features are {_sizes(recording)}, not {sizes}"
            if difference is not None:
                raise InputError(
                    f"{recording.path}: {difference} as in {first.path.name}; "
                    "remove one of the two and run 'abaw extract' again."
                )
            if recording.video_id != composed(recording.path.stem):
                raise InputError(
                    f"{recording.path}: holds the features of {recording.video_id}; name it so, or remove it "
                    "and run 'abaw extract' again."
                )
            recording.check_values()
        self._tell_of_new_labels(recordings)
        self._set_videos([_video(recording) for recording in recordings], recordings)

    def _tell_of_new_labels(self, recordings: Sequence[FeatureRecording]) -> None:
        """Warn where the files of the labels, if they are at hand, no longer say what the features keep."""
        files = label_files(self.root)
        changed = []
        for recording in recordings:
            path = files.get(recording.video_id)
            if path is not None and path.is_file() and not _agrees(path, recording):
                changed.append(path)
        if changed:
            rank_zero_warn(
                f"{self.root}: the labels of {len(changed)} videos were edited since their features were "
                f"extracted (first: {changed[0]}); the old ones are used. For the new ones, 'abaw extract' "
                "into another folder.",
                category=UserWarning,
            )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: which encoders made the features that the model is trained on, and how."""
        header = self._recordings[0].header
        return {"encoders": header.encoders, "settings": header.settings, **self._training_rate()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hold what the model was trained on against these features; either precision will do.

        Raises:
            InputError: They were made by other encoders or settings.
        """
        self.check(state_dict["encoders"], state_dict["settings"])
        self._trained_rate = state_dict.get("frame_rate")

    def check(self, encoders: dict[str, Any], settings: Mapping[str, Any]) -> None:
        """Refuse features that were made in another way; needs no ``setup``.

        Args:
            encoders: What made those that the model was trained on, see `FeatureHeader`.
            settings: What else they depended on. What isn't named may differ, and so may what changes the
                last digits alone, or follows from the corpus.

        Raises:
            InputError: They differ.
        """
        header = read_header(read_index(self.root)[0])
        free = {key: header.settings.get(key) for key in _FREE}
        asked = {**header.settings, **settings, **free}
        trained = replace(header, encoders=encoders, settings=asked)
        if difference := header.difference(trained, "encoders", "settings"):
            raise InputError(
                f"{self.root}: {difference} as where the model was trained; take the features of its own "
                "encoders and settings."
            )

    def _reader(self) -> FeatureReader:
        return FeatureReader(self._recordings[0])


def feature_sizes(root: str | Path) -> dict[str, int]:
    """The size D of each modality's features in a folder that ``abaw extract`` wrote.

    Raises:
        InputError: It is no such folder, or not complete.
    """
    tensors = FeatureRecording(read_index(expand(root))[0]).tensors
    return {name: tensors[name].shape[1] for name in MODALITIES if name in tensors}


def _sizes(recording: FeatureRecording) -> dict[str, tuple[int, torch.dtype]]:
    tensors = recording.tensors
    return {name: (tensors[name].shape[1], tensors[name].dtype) for name in MODALITIES if name in tensors}


def _agrees(path: Path, recording: FeatureRecording) -> bool:
    """Whether a file of labels says what the features keep."""
    try:
        annotation = read_annotation(path)
    except InputError:  # it was whole once
        return False
    return list(annotation.class_names) == recording.header.class_names and np.array_equal(
        annotation.labels, recording.target
    )


def _video(recording: FeatureRecording) -> Video:
    header = recording.header
    return Video(
        header.video_id,
        header.split,
        header.raw_id,
        annotation=None,
        crops=None,
        raw=None,
        num_frames=header.num_frames,
    )
