"""Fits what is done after the vote to the validation videos of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from torch import Tensor

from abaw.callbacks.results import VideoScores, VideoScoresConsumer, gather
from abaw.errors import InputError
from abaw.files import make_writable
from abaw.folder_lock import LockingCallback
from abaw.postprocess import POSTPROCESS_FILE, count_transitions
from abaw.ranges import MOST_FRAMES, check_count
from abaw.tuning import ScoredVideo, by_raw_video, tune


class PostprocessTuner(LockingCallback, VideoScoresConsumer):
    """Takes the scores of ``trainer.validate``, and writes the ``postprocess.yaml`` that suits them.

    The file goes into the trainer's ``default_root_dir``. The table of gains that is printed stands in it as
    a comment; see :func:`abaw.tuning.tune` for what they are. Transitions are counted in the data module's
    ``training_targets()``. Validation within ``fit`` is left alone, and after a ``fast_dev_run`` nothing is
    written.

    Args:
        folds: How many folds the cross-validation over raw videos has.
    """

    def __init__(self, folds: int = 5) -> None:
        check_count(3, MOST_FRAMES, folds=folds)
        self.folds = folds
        self._videos: dict[str, ScoredVideo] = {}

    def locked_folder(self, trainer: pl.Trainer, stage: str) -> Path | None:
        """Where the file goes."""
        writes = stage == "validate" and not trainer.fast_dev_run  # type: ignore[attr-defined]
        return Path(trainer.default_root_dir) if writes else None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget an earlier run, and find out whether the file can be written.

        Raises:
            InputError: If it cannot.
        """
        self._videos = {}
        if trainer.state.fn == TrainerFn.VALIDATING:
            make_writable(Path(trainer.default_root_dir))

    def on_video_scored(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: VideoScores
    ) -> None:
        """Keep one video's scores."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._videos[result.video_id] = ScoredVideo(
                result.video_id, result.scores, result.covered, result.target, result.answered
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather over ranks; fit, print and write on the first.

        Raises:
            InputError: If there are too few raw videos for the folds.
        """
        if trainer.state.fn != TrainerFn.VALIDATING:
            return
        videos = list(gather(self._videos).values())
        # On every rank, so that all of them stop where there is nothing to fit.
        groups = by_raw_video(videos, self.folds)
        if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        console = Console(soft_wrap=True, highlight=False, markup=False)
        console.print(f"Fitting to {len(groups)} raw videos: minutes, if they are hours long")
        class_names = list(cast(Sequence[str], pl_module.class_names))
        tuning = tune(videos, class_names, _transitions(trainer, len(class_names)), self.folds)
        path = Path(trainer.default_root_dir) / POSTPROCESS_FILE
        tuning.postprocessing.write(path, comment=tuning.describe())
        console.print(f"{tuning.describe()}\nParameters, for test and predict: {path}")


def _transitions(trainer: pl.Trainer, num_classes: int) -> Tensor | None:
    targets = getattr(getattr(trainer, "datamodule", None), "training_targets", None)
    try:
        return None if targets is None else count_transitions(map(torch.from_numpy, targets()), num_classes)
    except InputError:  # A corpus to tune on need not hold training videos.
        return None
