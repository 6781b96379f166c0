"""Scores of each video, and the submission made of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console

from abaw.callbacks.results import VideoScores, VideoScoresConsumer
from abaw.data.datasets import ChunkDataset
from abaw.errors import InputError
from abaw.files import check_name, expand, make_writable
from abaw.folder_lock import LockingCallback
from abaw.postprocess import (
    SavedScores,
    check_template,
    load_scores,
    own_scores,
    save_scores,
    score_files,
    submit_scores,
)


class PredictionWriter(LockingCallback, VideoScoresConsumer):
    """Writes what ``trainer.predict`` finds out.

    ``scores/<video>.safetensors`` as each video is voted: ``scores`` float32 (N, C), ``covered``,
    ``video_mask`` and ``audio_mask`` bool (N,), ``labels`` int64 (N,), the predicted classes, a frame that no
    window covered taking the nearest covered one's; the metadata's ``class_names`` are separated by commas.
    At the end ``predictions.txt``, see :func:`~abaw.postprocess.write_submission`. Of several conditions the
    first one of each video is written. After a ``fast_dev_run`` nothing is.

    Args:
        output_dir: Where to write, seen by all ranks; ``None`` means ``predictions`` in the trainer's
            ``default_root_dir``. Scores and submission of an earlier run there are removed.
        template: The organisers' sample submission; ``None`` takes the data module's ``template_path``, and
            where there is none, a row is written for every frame of every video, by name.
    """

    def __init__(self, output_dir: str | Path | None = None, template: str | Path | None = None) -> None:
        self.output_dir = output_dir
        self.template = template
        self._written: set[str] = set()
        self._enabled = True

    def locked_folder(self, trainer: pl.Trainer, stage: str) -> Path | None:
        """Where scores and submission go."""
        writes = stage == "predict" and not trainer.fast_dev_run  # type: ignore[attr-defined]
        return self._submission(trainer).parent if writes else None

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find what would fail at the end; then remove what an earlier run wrote.

        The submission is made of all scores that lie in the folder, and must not outlive its own.

        Raises:
            InputError: If the template does not fit the classes or the videos, a video's name is no file
                name, or the output folder cannot be written or holds files that are no scores.
        """
        self._written = set()
        self._enabled = not trainer.fast_dev_run  # type: ignore[attr-defined]
        if not self._enabled:
            return
        # On every rank, so that all of them stop where the input is wrong.
        template, submission = self.template_of(trainer), self._submission(trainer)
        videos = _videos_to_predict(trainer)
        if template is not None:
            if template.resolve() == submission.resolve():
                raise InputError(f"{template}: would be overwritten; keep the template in another folder")
            videos = check_template(template, _class_names(pl_module), videos)
        else:
            rank_zero_warn(
                "there is no submission template: predictions.txt gets a row for every frame of every video, "
                "which need not be the challenge's rows. Give --data.template FILE."
            )
        for video in videos or ():
            self._scores_path(trainer, video)
        make_writable(submission.parent)
        make_writable(self._scores_dir(trainer))
        stale = own_scores(self._scores_dir(trainer))
        trainer.strategy.barrier("stale scores found")
        if trainer.is_global_zero:
            for path in (submission, *stale):
                path.unlink(missing_ok=True)
        trainer.strategy.barrier("stale scores removed")

    def on_video_scored(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: VideoScores
    ) -> None:
        """Write one video's scores.

        Raises:
            InputError: If the video's name is no file name.
        """
        if not (trainer.predicting and self._enabled) or result.video_id in self._written:
            return
        self._written.add(result.video_id)
        saved = SavedScores(
            scores=result.scores,
            covered=result.covered,
            video_mask=result.video_mask,
            audio_mask=result.audio_mask,
            labels=result.labels,
            class_names=tuple(_class_names(pl_module)),
        )
        save_scores(self._scores_path(trainer, result.video_id), saved)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the submission of all ranks' scores, on the first rank.

        Raises:
            InputError: If no video was scored, a video has no finite score, or the template does not fit.
        """
        trainer.strategy.barrier("all scores written")
        if not (trainer.is_global_zero and self._enabled):
            return
        scores_dir, target = self._scores_dir(trainer), self._submission(trainer)
        saved = ((video, load_scores(path)) for video, path in score_files(scores_dir).items())
        report = submit_scores(target, self.template_of(trainer), saved)
        Console().print(
            f"{report.describe(target)}\nScores of each video: {scores_dir}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def template_of(self, trainer: pl.Trainer) -> Path | None:
        """The sample submission whose rows are asked for: this callback's, else the data module's."""
        path = self.template or getattr(getattr(trainer, "datamodule", None), "template_path", None)
        return None if path is None else expand(path)

    def _scores_dir(self, trainer: pl.Trainer) -> Path:
        return self._submission(trainer).parent / "scores"

    def _scores_path(self, trainer: pl.Trainer, video_id: str) -> Path:
        check_name(video_id)
        return self._scores_dir(trainer) / f"{video_id}.safetensors"

    def _submission(self, trainer: pl.Trainer) -> Path:
        folder = expand(self.output_dir or Path(trainer.default_root_dir) / "predictions")
        return folder / "predictions.txt"


def _videos_to_predict(trainer: pl.Trainer) -> set[str] | None:
    """The videos of all ranks; None where the loader is not the data module's own, which tells them."""
    dataset = getattr(trainer.predict_dataloaders, "dataset", None)
    if not isinstance(dataset, ChunkDataset):
        return None
    return {recording.video_id for recording in dataset.recordings}


def _class_names(pl_module: pl.LightningModule) -> list[str]:
    return list(cast(Sequence[str], pl_module.class_names))
