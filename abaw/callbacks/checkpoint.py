"""The two checkpoints of a run."""

from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt`` in the run's folder.

    A second run in the same folder replaces them. An interrupt (Ctrl-C) writes ``last.ckpt`` before the
    process ends, so that ``fit`` resumes from there.

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
        )
        self._step_of_last = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Settle the folder."""
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the best, and the last whether it is the best or not."""
        super().on_validation_end(trainer, pl_module)
        self._save_last(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what was trained since the last validation."""
        super().on_train_end(trainer, pl_module)
        self._save_last(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save where training stands when it is interrupted."""
        if isinstance(exception, KeyboardInterrupt) and trainer.state.fn == TrainerFn.FITTING:
            self._save_last(trainer)
            rank_zero_info(f"Interrupted. Go on with: abaw fit --run {trainer.default_root_dir}")

    def _save_last(self, trainer: pl.Trainer) -> None:
        # Lightning's own save_last writes only when the best is written.
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        fast_dev_run = getattr(trainer, "fast_dev_run", False)
        if fitting and not fast_dev_run and trainer.global_step > self._step_of_last:
            assert self.dirpath is not None
            trainer.save_checkpoint(str(Path(self.dirpath) / "last.ckpt"), weights_only=False)
            self._step_of_last = trainer.global_step
