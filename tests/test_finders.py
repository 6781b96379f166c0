"""Lightning's finders of a learning rate and of a batch size: what they find is what is trained with."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.tuner import Tuner
from small import fit_arguments
from test_module import make_loader, make_module

from abaw.cli import main

pytestmark = pytest.mark.slow


class Rates(pl.Callback):
    """The rates that each step of the training itself was made with."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        self.steps.append({group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups})


def make_trainer(folder: Path, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder,
        max_epochs=5,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=list(callbacks),
    )


@pytest.mark.parametrize("encoder_lr", [None, 1e-5])
@pytest.mark.parametrize("by", ["callback", "tuner"])
def test_the_rate_that_is_found_is_trained_with(by: str, encoder_lr: float | None, tmp_path: Path) -> None:
    module, rates = make_module(encoder_lr=encoder_lr, warmup=0.5), Rates()
    if by == "callback":
        finder = LearningRateFinder(1e-4, 1e-1, num_training_steps=30)
        make_trainer(tmp_path, finder, rates).fit(module, make_loader())
        found = finder.optimal_lr.suggestion()
    else:
        trainer = make_trainer(tmp_path, rates)
        found = (
            Tuner(trainer)
            .lr_find(module, make_loader(), min_lr=1e-4, max_lr=0.1, num_training=30)
            .suggestion()
        )
        trainer.fit(module, make_loader())
    assert found is not None
    assert found != 3e-4
    assert module.lr == module.hparams.lr == found
    assert len(rates.steps) == 20
    # Half of the 20 steps rise to the peak.
    for step, of_groups in enumerate(rates.steps[:10]):
        for name, rate in of_groups.items():
            peak = encoder_lr if encoder_lr and "encoders" in name else found
            assert rate == pytest.approx(peak * (step + 1) / 10)


def test_a_run_whose_rate_and_batch_size_were_found_is_resumed(corpus: Path, tmp_path: Path) -> None:
    finders = [
        "--trainer.callbacks+=LearningRateFinder",
        "--trainer.callbacks.num_training_steps=20",
        "--trainer.callbacks+=BatchSizeFinder",
        "--trainer.callbacks.max_trials=1",
        "--trainer.callbacks.steps_per_trial=1",
        "--trainer.callbacks.init_val=3",
    ]
    assert main([*fit_arguments(corpus, tmp_path), "--data.window=16", "--data.batch_size=1", *finders]) == 0
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    last = tmp_path / "checkpoints" / "last.ckpt"
    trained = torch.load(last, weights_only=True)
    assert config["model"]["lr"] == trained["hyper_parameters"]["lr"] != 3e-4
    found = config["data"]["init_args"]["batch_size"]
    assert found == trained["datamodule_hyper_parameters"]["batch_size"] == 3
    # The schedule has come to its end, though it was made for another number of steps.
    assert trained["lr_schedulers"][0]["_last_lr"] == pytest.approx([0] * 4, abs=1e-9)
    assert main(["fit", f"--run={tmp_path}", "--trainer.max_epochs=2"]) == 0
    again = torch.load(last, weights_only=True)
    assert again["global_step"] == 2 * trained["global_step"]
    assert again["hyper_parameters"]["lr"] == trained["hyper_parameters"]["lr"]
