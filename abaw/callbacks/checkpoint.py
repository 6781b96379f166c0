"""The two checkpoints of a run."""

from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint


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
            save_last=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Settle the folder."""
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save where training stands when it is interrupted."""
        if isinstance(exception, KeyboardInterrupt) and trainer.training and trainer.global_step > 0:
            assert self.dirpath is not None
            trainer.save_checkpoint(str(Path(self.dirpath) / "last.ckpt"))
