"""The two checkpoints of a run."""

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from abaw.errors import InputError
from abaw.trust import run_again


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Whether gradients wait for further batches of their group, which no checkpoint keeps."""
    batches = trainer.fit_loop.batch_idx + 1
    return batches % trainer.accumulate_grad_batches != 0 and not trainer.is_last_batch


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt`` in the run's folder.

    A second run in the same folder replaces them. Both are written when an epoch is over, and after each
    validation within one. An interrupt (Ctrl-C, or SIGTERM, by which clusters end jobs) writes ``last.ckpt``
    before the process ends, so that ``fit`` resumes from there.

    Args:
        monitor: The logged value that the best checkpoint is chosen by.
        mode: Whether it should be large or small.
        dirpath: Folder of the checkpoints; ``None`` means ``checkpoints`` in ``trainer.default_root_dir``.
    """

    def __init__(
        self, monitor: str = "val/f1", mode: Literal["min", "max"] = "max", dirpath: str | None = None
    ) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor=monitor,
            mode=mode,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=False,  # the moments to save are ours
        )
        self._is_validated = False
        self._step_of_last = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Settle the folder.

        Raises:
            InputError: If a callback changes the weights when the last checkpoint is written.
        """
        if any(isinstance(c, StochasticWeightAveraging) for c in trainer.callbacks):  # type: ignore[attr-defined]
            raise InputError(
                "StochasticWeightAveraging takes its average after the last checkpoint is written, so none "
                "holds it: take WeightAveraging or EMAWeightAveraging, whose averages are validated and saved"
            )
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Where training starts, nothing needs to be saved."""
        super().on_train_start(trainer, pl_module)
        self._step_of_last = trainer.global_step
        progress = trainer.fit_loop.epoch_progress.current
        if progress.ready == progress.completed:
            # With max_steps, Lightning takes each training that goes on for one within an epoch.
            trainer.fit_loop.epoch_loop.restarting = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Within an epoch, save the best, and the last whether it is the best or not."""
        self._is_validated = True
        if not trainer.is_last_batch:
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save both where the epoch is over: saved before, it would go on as one without batches."""
        self._save(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save where training stands when it is interrupted."""
        interrupted = isinstance(exception, (KeyboardInterrupt, SIGTERMException))
        if interrupted and trainer.state.fn == TrainerFn.FITTING:
            self._save_last(trainer)
            rank_zero_info(f"Interrupted. Go on with: {run_again('fit', trainer, pl_module)}")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say where training goes on: in the next epoch where one is over, and where validation begins."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        if progress["current"]["ready"] == progress["current"]["processed"]:
            for count in progress.values():
                count["completed"] = count["processed"]
        # What a validation has counted before it was interrupted is not saved: it is begun anew.
        if trainer.state.status == TrainerStatus.INTERRUPTED and trainer.validating:
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress = {"total": begun, "current": dict(begun), "is_last_batch": False}
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = progress

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._is_validated:
            self._is_validated = False
            super().on_validation_end(trainer, pl_module)
        if not is_accumulating(trainer):
            self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        # Lightning's own save_last writes only when the best is written.
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        fast_dev_run = getattr(trainer, "fast_dev_run", False)
        if fitting and not fast_dev_run and trainer.global_step > self._step_of_last:
            assert self.dirpath is not None
            trainer.save_checkpoint(str(Path(self.dirpath) / "last.ckpt"), weights_only=False)
            self._step_of_last = trainer.global_step
