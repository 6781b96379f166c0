"""Features on disk: one safetensors file a video and person, and an index that names them all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from abaw.data.feature_check import (
    MODALITIES,
    wrong_in_header,
    wrong_in_tensors,
    wrong_in_values,
)
from abaw.data.feature_index import read_index as read_index
from abaw.data.feature_index import write_index as write_index
from abaw.data.layout import Split
from abaw.data.windows import Sample
from abaw.errors import InputError
from abaw.labels import IGNORE_INDEX
from abaw.tensor_file import write_tensors
from abaw.trees import flatten

TEMPLATE: Final = "test_set_sample.txt"
"""Under this name a folder of features keeps the submission template, where it is found by it."""

_VERSION: Final = 1
_KEY: Final = "abaw"
_MASKS: Final = {"visual": "video_mask", "audio": "audio_mask"}


@dataclass(frozen=True)
class FeatureHeader:
    """What a file of features says of itself; plain data.

    Attributes:
        video_id: The video's name, person suffix included.
        raw_id: The name of the raw video, which persons share.
        split: The official split.
        class_names: The C class names.
        num_frames: N.
        lead: Seconds of sound before the first frame of a window.
        encoders: By modality, what made the features: ``class_path``, ``init_args`` (null if they are not
            plain data), ``provenance`` (such as a checkpoint's name, revision and normalisation) and
            ``weights``, a SHA-256 of them. A modality without an encoder isn't there.
        settings: What else the features depend on.
        sources: What the features were made of: fingerprints of the ``crops`` and of the raw ``video``, as
            far as the video has them. Files of older versions have none.
    """

    video_id: str
    raw_id: str
    split: Split
    class_names: list[str]
    num_frames: int
    lead: float
    encoders: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    sources: dict[str, str] = field(default_factory=dict)

    def difference(self, other: FeatureHeader, *attributes: str) -> str | None:
        """The first difference in some attributes, in words; None if there is none."""
        mine, others = (flatten({name: getattr(h, name) for name in attributes}) for h in (self, other))
        for key in sorted(mine.keys() | others.keys()):
            if mine.get(key) != others.get(key):
                return f"{key} is {mine.get(key)}, not {others.get(key)}"
        return None


def write_features(path: Path, header: FeatureHeader, tensors: Mapping[str, Tensor]) -> None:
    """Write the features of one video, whole or not at all; the bytes depend on the arguments alone.

    Args:
        path: The file to write, ``<video_id>.safetensors``.
        header: What they are.
        tensors: ``visual`` and ``audio``, float (N, D), as far as there are encoders; ``video_mask`` and
            ``audio_mask``, bool (N,); ``target``, int64 (N,); ``time``, float64 (N,), seconds on the video's
            own clock.

    Raises:
        OSError: It can't be written; it has the file's name.
    """
    # One entry alone: safetensors puts several into a random order.
    metadata = {_KEY: json.dumps({"version": _VERSION, **asdict(header)}, sort_keys=True)}
    write_tensors(path, {name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)


def read_header(path: Path) -> FeatureHeader:
    """Read what a file of features says of itself, and none of its features.

    Raises:
        InputError: It is no whole file of features, or one of another version, or its tensors are others than
            it says.
    """
    try:
        with safe_open(path, framework="pt") as file:
            entries = json.loads((file.metadata() or {})[_KEY])
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
        if entries.pop("version") != _VERSION:
            raise InputError(f"{path}: was written by another version of abaw; extract the features again.")
        entries.setdefault("sources", {})
        header = FeatureHeader(**{entry.name: entries[entry.name] for entry in fields(FeatureHeader)})
    except InputError:
        raise
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, "is damaged, or holds no features", error) from error
    except RecursionError as error:
        raise _damaged(path, "is damaged, or holds no features") from error
    if problem := wrong_in_header(header) or wrong_in_tensors(header, found):
        raise _damaged(path, problem)
    return header


def _damaged(path: Path, problem: str, error: Exception | None = None) -> InputError:
    reason = "" if error is None else f" ({error})"
    return InputError(f"{path}: {problem}; remove it and run 'abaw extract' again.{reason}")


class FeatureRecording:
    """The features of one video: a file that is mapped into memory, not read.

    Args:
        path: What `write_features` wrote.

    Attributes:
        header: What the file says of itself.

    Raises:
        InputError: It is no whole file of features.
    """

    num_broken = 0
    """Crops that could not be read: that was told when the features were made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = read_header(path)

    def __len__(self) -> int:
        return self.header.num_frames

    @property
    def video_id(self) -> str:
        """The video's name."""
        return self.header.video_id

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The file's tensors, see `write_features`; only what is indexed is read.

        Raises:
            InputError: The file is gone.
        """
        try:
            return load_file(self.path)
        except (OSError, SafetensorError) as error:
            raise _damaged(self.path, "is damaged, or gone", error) from error

    def check_values(self) -> None:
        """Look at the labels and the times; features are looked at where they are read.

        Raises:
            InputError: One can't be right.
        """
        if problem := wrong_in_values(self.header, self.tensors):
            raise _damaged(self.path, problem)

    @cached_property
    def target(self) -> NDArray[np.int64]:
        """int64 (N,), class index, ``IGNORE_INDEX`` where not annotated."""
        return self.tensors["target"].numpy()

    @property
    def time(self) -> NDArray[np.float64]:
        """float64 (N,), when each frame is shown, in seconds on the video's own clock."""
        return self.tensors["time"].numpy()

    def __getstate__(self) -> dict[str, Any]:
        # A process that is sent this opens the file itself: pickled, a mapped tensor is a copy.
        return {"path": self.path, "header": self.header}


class FeatureReader:
    """Cuts windows out of the features of videos.

    Args:
        example: Any of the videos: all have features of its sizes and type.
    """

    def __init__(self, example: FeatureRecording) -> None:
        self._example = example

    def read(
        self, recording: FeatureRecording, frames: NDArray[np.int64], rng: np.random.Generator | None = None
    ) -> Sample:
        """Read a window of evenly spaced frames.

        Args:
            recording: The video.
            frames: int64 (T,), ascending frame numbers, then -1 where padded; the first is a frame.
            rng: Not used: features are not augmented.

        Returns:
            What `Batch` holds, without the leading B. Tensors of a window without padding are views of the
            file: nothing is copied before windows are stacked.

        Raises:
            InputError: A feature of a present face or voice is not finite.
        """
        present = frames[frames >= 0]
        first = int(present[0])
        step = int(present[1]) - first if len(present) > 1 else 1
        return self._cut(recording, slice(first, int(present[-1]) + 1, step), len(frames))

    def padding(self, num_frames: int) -> Sample:
        """A window of T = ``num_frames`` that holds no frame at all."""
        names = {"video_id": "", "audio_start": 0.0, "num_frames": 0}
        return self._cut(self._example, slice(0, 0, 1), num_frames) | names

    def _cut(self, recording: FeatureRecording, frames: slice, num_frames: int) -> Sample:
        tensors = recording.tensors
        taken = {name: tensor[frames] for name, tensor in tensors.items()}
        start = float(tensors["time"][frames.start]) - recording.header.lead
        window = {f"{name}_features": taken[name] for name in MODALITIES if name in taken}
        window |= {name: taken[name] for name in ("video_mask", "audio_mask", "target")}
        window["time"] = (taken["time"] - start).float()
        window["frame"] = torch.arange(frames.start, frames.stop, frames.step)
        for name in MODALITIES:
            # Those of absent frames are never looked at.
            if name in taken and not (taken[name].isfinite().all(-1) | ~taken[_MASKS[name]]).all():
                raise _damaged(recording.path, f"its {name} features are not finite")
        filler = {"target": IGNORE_INDEX, "frame": -1}
        return {name: _pad(tensor, num_frames, filler.get(name, 0)) for name, tensor in window.items()} | {
            "video_id": recording.video_id,
            "audio_start": start,
            "num_frames": len(recording),
        }


def _pad(tensor: Tensor, length: int, value: int) -> Tensor:
    if len(tensor) == length:
        return tensor
    return torch.cat([tensor, tensor.new_full((length - len(tensor), *tensor.shape[1:]), value)])
