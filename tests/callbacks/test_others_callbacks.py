"""Lightning's own callbacks beside ours: each works, goes on after a checkpoint, or is refused in words."""

from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from test_module import T, make_batch, make_module
from torch import Tensor
from torch.utils.data import DataLoader

from abaw import ExpressionModule
from abaw.callbacks import RunCheckpoint, SlidingWindowInference
from abaw.errors import InputError


class Watch(pl.Callback):
    """Rates by parameter, and whether the visual encoder has changed, in each epoch."""

    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []
        self.encoders: list[Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        groups = trainer.optimizers[0].param_groups
        self.rates.append({names[id(p)]: group["lr"] for group in groups for p in group["params"]})
        self.encoders.append(next(pl_module.visual_encoder.parameters()).detach().clone())


def fit(folder: Path, callback: pl.Callback, epochs: int, ckpt_path: Path | None = None) -> Watch:
    def loader(batch: int) -> DataLoader:
        batches = [make_batch(seed, batch) for seed in range(4)]
        return DataLoader(batches, batch_size=None, generator=torch.Generator())

    watch = Watch()
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback, watch, SlidingWindowInference(window=T), RunCheckpoint()],
    )
    trainer.fit(make_module(), loader(3), loader(1), ckpt_path=ckpt_path, weights_only=True)
    return watch


def test_a_backbone_is_frozen_then_finetuned(tmp_path: Path) -> None:
    watch = fit(tmp_path, BackboneFinetuning(unfreeze_backbone_at_epoch=2), 4)
    first = watch.encoders[0]
    assert [torch.equal(value, first) for value in watch.encoders] == [True] * 8 + [False] * 8
    encoders = [{n for n in rates if "encoder" in n} for rates in watch.rates]
    assert not encoders[7]
    assert all("encoder" in n or n in watch.rates[0] for n in watch.rates[8])
    names = {n for n, p in make_module().named_parameters() if "encoder" in n}
    assert encoders[8] == names
    # The head goes on along its own schedule, whatever was added to the optimizer.
    plain = fit(tmp_path / "plain", Watch(), 4)
    for rates, expected in zip(watch.rates, plain.rates, strict=True):
        assert all(rates[n] == expected[n] for n in rates if n.startswith("fusion"))
    # It goes on from a checkpoint with the groups that it had.
    again = fit(tmp_path, BackboneFinetuning(2), 5, tmp_path / "checkpoints" / "last.ckpt")
    assert {n for n in again.rates[0] if "encoder" in n} == names


def test_averages_are_what_is_saved(tmp_path: Path) -> None:
    fit(tmp_path, EMAWeightAveraging(decay=0.9), 2)
    path = tmp_path / "checkpoints" / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    name = "visual_encoder.network.0.weight"
    assert not torch.equal(saved["state_dict"][name], saved["current_model_state"][name])
    ExpressionModule.load_from_checkpoint(path, weights_only=True)
    fit(tmp_path, EMAWeightAveraging(decay=0.9), 3, path)


def test_a_schedule_of_accumulation_is_one_of_steps(tmp_path: Path) -> None:
    watch = fit(tmp_path, GradientAccumulationScheduler({0: 1, 2: 3}), 4)
    # 4 + 4 + 2 + 2 steps: the last is one step before the end of the cosine.
    plain = fit(tmp_path / "plain", Watch(), 3)
    assert watch.rates[-1] == plain.rates[-1]
    assert sum(a != b for a, b in zip(watch.rates, watch.rates[1:], strict=False)) == 11


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping("val/f1", mode="max", patience=1, check_on_train_epoch_end=True),
        lambda: ModelCheckpoint(monitor="val/f1", mode="max", save_top_k=2, save_last=True),
    ],
)
def test_others_go_on_after_a_checkpoint(make: Callable[[], pl.Callback], tmp_path: Path) -> None:
    fit(tmp_path, make(), 1)
    watch = fit(tmp_path, make(), 2, tmp_path / "checkpoints" / "last.ckpt")
    assert len(watch.rates) == 4


def test_an_average_that_no_checkpoint_would_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="take WeightAveraging or EMAWeightAveraging"):
        fit(tmp_path, StochasticWeightAveraging(swa_lrs=1e-3), 2)


def test_finetuning_over_several_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    with pytest.raises(InputError, match="not synchronised"):
        fit(tmp_path, BackboneFinetuning(2), 2)
