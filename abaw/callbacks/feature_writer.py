"""Features of every video, computed once and kept."""

import shutil
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import lightning.pytorch as pl
import torch
from rich.console import Console
from torch import Tensor

from abaw.callbacks.inference import SlidingWindowInference
from abaw.callbacks.results import VideoFeaturesConsumer
from abaw.data import AffWild2DataModule
from abaw.data.feature_index import write_index
from abaw.data.features import TEMPLATE, FeatureHeader, FeatureRecording, write_features
from abaw.encoders import AudioEncoder, PrecomputedEncoder, VisualEncoder
from abaw.engine import VideoFeatures
from abaw.errors import InputError
from abaw.files import expand, replacing
from abaw.fingerprint import fingerprint
from abaw.folder_lock import LockingCallback
from abaw.module import ExpressionModule

_COMPARED = ("raw_id", "split", "class_names", "num_frames", "encoders", "settings")


class FeatureWriter(LockingCallback, VideoFeaturesConsumer):
    """Writes the features of the whole corpus while ``trainer.predict`` runs, each video as it is complete.

    Makes the data module serve the videos of all splits but those that are finished: after a kill, the next
    run goes on where the last one stopped, and ends with the same bytes. Beside a file for each video (see
    `abaw.data.features`) the folder gets their index and, if there is one, the submission template.

    Args:
        output_dir: The folder, seen by all ranks.
        dtype: What features are kept in. Half precision takes half the space, and keeps three digits.
    """

    def __init__(self, output_dir: str | Path, dtype: Literal["float32", "float16"] = "float32") -> None:
        self.output_dir = expand(output_dir)
        self.dtype = dtype
        self._finished: list[str] = []
        self._expected: dict[str, FeatureHeader] = {}
        self._began = 0.0

    def locked_folder(self, trainer: pl.Trainer, stage: str) -> Path:
        """The folder of the features."""
        return self.output_dir

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find what is finished, and have the rest served.

        Raises:
            InputError: If there is nothing to encode, the folder cannot be written, or another process writes
                there.
        """
        data = _corpus(trainer)
        for slot, encoder in _encoders(pl_module).items():
            if isinstance(encoder, PrecomputedEncoder):
                raise InputError(
                    f"{slot}_encoder is a PrecomputedEncoder, which encodes nothing: name another"
                )
        super().setup(trainer, pl_module, stage)
        finished: list[str] = []
        if trainer.is_global_zero:
            for partial in self.output_dir.glob(".*.safetensors.*.tmp"):  # of a run that was killed
                partial.unlink()
            finished = self._find_finished(data)
        self._finished = trainer.strategy.broadcast(finished)
        data.predict_all(but=self._finished)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hold what is finished against what would be written now.

        Not before: a checkpoint's weights are loaded after ``setup``.

        Raises:
            InputError: If a file was made by another encoder, other weights or settings, or of other labels.
        """
        data = _corpus(trainer)
        self._expected = self._headers(trainer, pl_module, data)
        targets = dict(zip(self._expected, data.targets, strict=True))
        # On every rank, so that all of them stop where something is wrong.
        for name in self._finished:
            recording = FeatureRecording(self._path(name))
            problem = recording.header.difference(self._expected[name], *_COMPARED)
            if problem is None and (recording.target != targets[name]).any():
                problem = "its labels are not those of the corpus"
            made_of, now = recording.header.sources, self._expected[name].sources
            for what in ("crops", "video"):
                if problem is None and made_of and made_of.get(what) != now.get(what):
                    problem = f"its {what} in the corpus changed since"
            if problem is not None:
                raise InputError(
                    f"{recording.path}: {problem}, as it would be now; remove what is in the folder, or "
                    "extract into another one"
                )
        trainer.strategy.barrier("finished features checked")
        if trainer.is_global_zero:
            labels = {v.video_id: v.annotation for v in data.videos if v.annotation is not None}
            learned_from = cast(ExpressionModule, pl_module).encoders_trained_on
            write_index(self.output_dir, list(self._expected), labels, learned_from)
            if data.template_path is not None:
                with replacing(self.output_dir / TEMPLATE) as temporary:
                    shutil.copyfile(data.template_path, temporary)
        self._began = time.monotonic()

    def on_video_encoded(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, video: VideoFeatures
    ) -> None:
        """Write one video's features, unless one of Lightning's limits has cut it short.

        Raises:
            InputError: If a feature is not finite, or too large for half precision.
        """
        header = replace(self._expected[video.video_id], lead=video.lead)
        if video.num_frames < header.num_frames:
            return
        features = {name: self._stored(getattr(video, name), video.video_id) for name in header.encoders}
        others = {name: getattr(video, name).cpu() for name in ("video_mask", "audio_mask", "target", "time")}
        write_features(self._path(video.video_id), header, features | others)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell what was done, on the first rank."""
        trainer.strategy.barrier("all features written")
        if not trainer.is_global_zero:
            return
        seconds = time.monotonic() - self._began
        new = {name: header for name, header in self._expected.items() if name not in self._finished}
        if missing := [name for name in new if not self._path(name).exists()]:
            warnings.warn(
                f"{len(missing)} videos were cut short and are not written (first: {missing[0]}); run again "
                "without limit_predict_batches or fast_dev_run.",
                stacklevel=2,
            )
            new = {name: header for name, header in new.items() if name not in missing}
        frames = sum(header.num_frames for header in new.values())
        rate = f" ({frames / seconds:,.0f} frames/s)" if frames else ""
        Console().print(
            f"{len(new)} videos, {frames} frames{rate}; {len(self._finished)} videos were finished before: "
            f"{self.output_dir}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Have the test set served again, and let others write."""
        super().teardown(trainer, pl_module, stage)
        if isinstance(data := trainer.datamodule, AffWild2DataModule):  # type: ignore[attr-defined]
            data.predict_all(but=None)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Have the test set served again, and let others write."""
        self.teardown(trainer, pl_module, "predict")

    def _path(self, video_id: str) -> Path:
        return self.output_dir / f"{video_id}.safetensors"

    def _find_finished(self, data: AffWild2DataModule) -> list[str]:
        finished, damaged = [], []
        for video in data.videos:
            path = self._path(video.video_id)
            if path.exists():
                try:
                    FeatureRecording(path)
                    finished.append(video.video_id)
                except InputError:
                    damaged.append(video.video_id)
        if damaged:
            warnings.warn(
                f"{self.output_dir}: {len(damaged)} files are damaged (first: {damaged[0]}); they are "
                "written again.",
                stacklevel=2,
            )
        return finished

    def _headers(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, data: AffWild2DataModule
    ) -> dict[str, FeatureHeader]:
        # Of a sharded model the first rank alone is given all weights.
        weights = trainer.strategy.lightning_module_state_dict()
        slots = _encoders(pl_module)
        fingerprints = trainer.strategy.broadcast({s: fingerprint(weights, f"{s}_encoder.") for s in slots})
        encoders = {
            slot: _describe(encoder) | {"provenance": encoder.provenance(), "weights": fingerprints[slot]}
            for slot, encoder in slots.items()
        }
        # Which frames are encoded together, and by which kernels, shows in the last bits.
        rounding = {
            "batch_size": data.batch_size,
            "precision": str(trainer.precision),
            "compile": any(
                callback.voter.compile
                for callback in trainer.callbacks  # type: ignore[attr-defined]
                if isinstance(callback, SlidingWindowInference)
            ),
            "dtype": self.dtype,
        }
        settings = data.reading | rounding
        sources = trainer.strategy.broadcast(data.fingerprints() if trainer.is_global_zero else [])
        return {
            video.video_id: FeatureHeader(
                video_id=video.video_id,
                raw_id=video.raw_id,
                split=video.split,
                class_names=list(data.class_names),
                num_frames=len(target),
                lead=0.0,  # known when the video is encoded
                encoders=encoders,
                settings=settings,
                sources=made_of,
            )
            for video, target, made_of in zip(data.videos, data.targets, sources, strict=True)
        }

    def _stored(self, features: Tensor, video_id: str) -> Tensor:
        stored = features.to(getattr(torch, self.dtype)).cpu()
        if not stored.isfinite().all():
            reason = (
                "too large for half precision: set dtype to float32"
                if features.isfinite().all()
                else "not finite: the encoder's weights are broken"
            )
            raise InputError(f"{video_id}: features are {reason}")
        return stored


def _corpus(trainer: pl.Trainer) -> AffWild2DataModule:
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, AffWild2DataModule):
        raise InputError(f"features are extracted from an AffWild2DataModule, not a {type(data).__name__}")
    return data


def _encoders(module: pl.LightningModule) -> dict[str, VisualEncoder | AudioEncoder]:
    if not isinstance(module, ExpressionModule):
        raise TypeError(f"FeatureWriter takes an ExpressionModule, not {type(module).__name__}")
    slots = {"visual": module.visual_encoder, "audio": module.audio_encoder}
    return {slot: encoder for slot, encoder in slots.items() if encoder is not None}


def _describe(encoder: VisualEncoder | AudioEncoder) -> dict[str, Any]:
    try:
        return encoder.describe()
    except TypeError:  # made of live objects: the weights still tell
        return {"class_path": f"{type(encoder).__module__}.{type(encoder).__qualname__}", "init_args": None}
