from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from abaw.callbacks import RunCheckpoint


class Scored(BoringModel):
    """Logs a score that falls after the first epoch."""

    def on_validation_epoch_end(self) -> None:
        self.log("val/f1", torch.tensor(1.0 - self.current_epoch))


class Interrupt(pl.Callback):
    """Ctrl-C at a hook, in the second epoch."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self._interrupt)

    def _interrupt(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.current_epoch == 1 and not trainer.sanity_checking:
            raise KeyboardInterrupt


def fit(folder: Path, *callbacks: pl.Callback) -> None:
    pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=2,
        limit_train_batches=3,
        limit_val_batches=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[RunCheckpoint(), *callbacks],
    ).fit(Scored())


def epochs(folder: Path) -> dict[str, int]:
    return {p.stem: torch.load(p, weights_only=True)["epoch"] for p in (folder / "checkpoints").iterdir()}


def test_keeps_the_best_and_the_last(tmp_path: Path) -> None:
    fit(tmp_path)
    assert epochs(tmp_path) == {"best": 0, "last": 1}


def test_a_second_run_replaces_them(tmp_path: Path) -> None:
    fit(tmp_path)
    before = (tmp_path / "checkpoints" / "best.ckpt").read_bytes()
    torch.manual_seed(1)
    fit(tmp_path)
    assert epochs(tmp_path) == {"best": 0, "last": 1}
    assert (tmp_path / "checkpoints" / "best.ckpt").read_bytes() != before


@pytest.mark.parametrize(
    ("hook", "steps"),
    [("on_train_batch_start", 3), ("on_train_batch_end", 4), ("on_validation_batch_start", 6)],
)
def test_an_interrupt_saves_where_training_stands(tmp_path: Path, hook: str, steps: int) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, Interrupt(hook))
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == steps


def test_an_interrupt_before_the_first_step_saves_nothing(tmp_path: Path) -> None:
    class Early(pl.Callback):
        def on_train_start(self, *_: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        fit(tmp_path, Early())
    assert not (tmp_path / "checkpoints").exists()
