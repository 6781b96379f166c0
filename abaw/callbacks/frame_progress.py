"""A progress bar that counts frames."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from abaw.data.batch import Batch, on_host
from abaw.data.datasets import ChunkDataset


class FrameProgressBar(ProgressBar):
    """Shows how many frames a prediction has seen, how many it sees in a second, and the time that is left.

    Of several ranks the first one's frames stand for all: their shares are about as long.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar = Progress(
            "Frames", BarColumn(), MofNCompleteColumn(), _FramesPerSecond(), "left:", TimeRemainingColumn()
        )
        self._ranks = 1

    def disable(self) -> None:
        """Show nothing."""
        self._bar.disable = True

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar on the first rank, if there is anything to do."""
        self._ranks = trainer.world_size
        dataset = getattr(trainer.predict_dataloaders, "dataset", None)
        assert isinstance(dataset, ChunkDataset)
        if trainer.is_global_zero and (total := sum(dataset.num_frames)):
            self._bar.add_task("", total=total)
            self._bar.start()

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch's frames."""
        for task in self._bar.task_ids:
            self._bar.advance(task, int((on_host(batch).frame >= 0).sum()) * self._ranks)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()


class _FramesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} frames/s")
