"""A stage of Lightning's loop in which a callback is handed scores that a test made up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from abaw.callbacks.results import VideoScores, VideoScoresConsumer


class Module(pl.LightningModule):
    """Predicts nothing, and knows its classes."""

    def __init__(self, class_names: list[str]) -> None:
        super().__init__()
        self.class_names = class_names

    def test_step(self, batch, batch_idx):
        return None

    validation_step = predict_step = test_step


class Data(pl.LightningDataModule):
    """One batch, and the attributes that a test gives it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.__dict__ |= attributes

    def test_dataloader(self):
        return DataLoader([0])

    val_dataloader = predict_dataloader = test_dataloader


class Inference(Callback):
    """Hands results over as late as the engine may: at the epoch's end, behind the consumer in the list."""

    def __init__(self, results: Sequence[VideoScores]) -> None:
        self.results = results

    def on_test_epoch_end(self, trainer, pl_module):
        for callback in trainer.callbacks:
            if isinstance(callback, VideoScoresConsumer):
                for result in self.results:
                    callback.on_video_scored(trainer, pl_module, result)

    on_validation_epoch_end = on_predict_epoch_end = on_test_epoch_end


class Unreached(Sequence[VideoScores]):
    """Results that no test gets to: an error must have come before."""

    def __getitem__(self, index):
        raise AssertionError("the videos were scored")

    def __len__(self):
        return 1


def run_stage(
    stage: str,
    folder: Path,
    consumer: Callback,
    results: Sequence[VideoScores],
    class_names: list[str],
    data: pl.LightningDataModule | None = None,
    **options: Any,
) -> None:
    """Run ``trainer.<stage>`` in ``folder`` with ``consumer`` and an inference that finds ``results``."""
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[consumer, Inference(results)],
        **options,
    )
    getattr(trainer, stage)(Module(class_names), datamodule=data or Data())
