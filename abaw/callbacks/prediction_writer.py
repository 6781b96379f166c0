"""Scores of each video, and the submission made of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from abaw.callbacks.results import VideoScores, VideoScoresConsumer
from abaw.errors import InputError
from abaw.postprocess import write_submission
from abaw.postprocess.files import replacing
from abaw.postprocess.nearest import nearest_present


class PredictionWriter(Callback, VideoScoresConsumer):
    """Writes what ``trainer.predict`` finds out.

    ``scores/<video>.safetensors`` as each video is voted: ``scores`` float32 (N, C), ``covered``,
    ``video_mask`` and ``audio_mask`` bool (N,), ``labels`` int64 (N,), the predicted classes, a frame that no
    window covered taking the nearest covered one's; the metadata's ``class_names`` are separated by commas.
    At the end ``predictions.txt``, see :func:`~abaw.postprocess.write_submission`. Of several conditions the
    first one of each video is written. After a ``fast_dev_run`` nothing is.

    Args:
        output_dir: Where to write, seen by all ranks; ``None`` means ``predictions`` in the trainer's
            ``default_root_dir``. Scores of an earlier run there are removed.
        template: The organisers' sample submission; ``None`` takes the data module's ``template_path``, and
            where there is none, a row is written for every frame of every video, by name.
    """

    def __init__(self, output_dir: str | Path | None = None, template: str | Path | None = None) -> None:
        self.output_dir = output_dir
        self.template = template
        self._written: set[str] = set()
        self._enabled = True

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the scores of an earlier run: the submission is made of all that lie in the folder."""
        self._written = set()
        self._enabled = not trainer.fast_dev_run  # type: ignore[attr-defined]
        if trainer.is_global_zero and self._enabled:
            for stale in self._scores_dir(trainer).glob("*.safetensors"):
                stale.unlink()
        trainer.strategy.barrier("stale scores removed")

    def on_video_scored(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: VideoScores
    ) -> None:
        """Write one video's scores."""
        if not (trainer.predicting and self._enabled) or result.video_id in self._written:
            return
        self._written.add(result.video_id)
        tensors = {
            "scores": result.scores,
            "covered": result.covered,
            "video_mask": result.video_mask,
            "audio_mask": result.audio_mask,
            "labels": result.scores.argmax(-1)[nearest_present(result.covered)],
        }
        metadata = {"class_names": ",".join(_class_names(pl_module))}
        with replacing(self._scores_dir(trainer) / f"{result.video_id}.safetensors") as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the submission of all ranks' scores, on the first rank.

        Raises:
            InputError: If no video was scored, a video has no finite score, or the template does not fit.
        """
        trainer.strategy.barrier("all scores written")
        if not (trainer.is_global_zero and self._enabled):
            return
        scores_dir = self._scores_dir(trainer)
        labels: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        uncovered = 0
        for path in sorted(scores_dir.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                covered = file.get_tensor("covered")
                labels[path.stem], present[path.stem] = (
                    file.get_tensor("labels"),
                    file.get_tensor("video_mask"),
                )
            if not covered.any():
                raise InputError(f"{path}: no frame has a finite score; train the model again")
            uncovered += int((~covered).sum())
        if not labels:
            raise InputError(f"{scores_dir}: no video was scored; is the test list empty?")

        template = self.template or getattr(getattr(trainer, "datamodule", None), "template_path", None)
        target = scores_dir.parent / "predictions.txt"
        report = write_submission(target, template, labels, _class_names(pl_module), present)
        Console().print(
            f"{report.rows} rows of {report.videos} videos: {target}\n"
            f"  {report.filled} without a face take the label of the nearest frame with one\n"
            f"  {uncovered} without a score take the label of the nearest frame with one\n"
            f"Scores of each video: {scores_dir}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _scores_dir(self, trainer: pl.Trainer) -> Path:
        return Path(self.output_dir or Path(trainer.default_root_dir) / "predictions") / "scores"


def _class_names(pl_module: pl.LightningModule) -> list[str]:
    return list(cast(Sequence[str], pl_module.class_names))
