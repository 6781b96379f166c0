"""A data module that is none of abaw's, through the commands."""

from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from small import told_in_one_line

from abaw.callbacks import SlidingWindowInference
from abaw.cli import main
from abaw.trained_run import TrainedRun

pytestmark = pytest.mark.slow

CONFIG = """
data: {class_path: foreign_data.ForeignData}
model:
  visual_encoder: {class_path: ConvVisualEncoder, init_args: {out_features: 16}}
  audio_encoder: {class_path: LogMelEncoder, init_args: {out_features: 16}}
  fusion: {class_path: ConcatFusion}
inference: {window: 12, stride: 5}
trainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "config.yaml").write_text(CONFIG)
    arguments = [f"--config={folder}/config.yaml", f"--trainer.default_root_dir={folder}/run"]
    assert main(["fit", *arguments]) == 0
    return folder / "run"


@pytest.mark.parametrize("command", ["test", "predict", "tune"])
def test_it_is_scored_as_it_was_validated(
    command: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    windows = []
    setup = SlidingWindowInference.setup

    def watch(self: SlidingWindowInference, trainer: Trainer, *others: object, **named: object) -> None:
        windows.append(self.voter.window)
        setup(self, trainer, *others, **named)

    monkeypatch.setattr(SlidingWindowInference, "setup", watch)
    options = ["--folds=3"] if command == "tune" else []
    assert main([command, f"--run={run}", "--trust=foreign_data", *options]) == 0
    assert windows == [12]


def test_it_is_resumed_and_its_run_is_loaded(run: Path) -> None:
    assert main(["fit", f"--run={run}", "--trust=foreign_data", "--trainer.max_epochs=2"]) == 0
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (1, 4)
    assert last["hyper_parameters"]["class_names"] == ["Calm", "Tense", "Other"]
    assert TrainedRun.load(run).voting["window"] == 12
    assert yaml.safe_load((run / "config.yaml").read_text())["inference"]["window"] == 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--data=foreign_data.Nameless"], "Nameless has no property class_names"),
        (["fit", "--model.loss=LogitAdjustedLoss"], "ForeignData has no property class_counts"),
        (["extract", "features"], "features are extracted from an AffWild2DataModule, not a ForeignData"),
    ],
)
def test_what_a_command_needs_beyond_batches_is_asked_for(
    arguments: list[str], words: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    where = [f"--config={tmp_path}/config.yaml", f"--trainer.default_root_dir={tmp_path}/run"]
    assert words in told_in_one_line([arguments[0], *where, *arguments[1:]], capsys)
