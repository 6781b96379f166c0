"""A loss of torch by its class path, from the command line to the score and back."""

from pathlib import Path

import pytest
import torch
from small import fit_arguments
from torch import nn

from abaw import ExpressionModule
from abaw.cli import main

pytestmark = pytest.mark.slow


def test_a_loss_of_torch_trains_resumes_and_scores(corpus: Path, tmp_path: Path) -> None:
    loss = ["--model.loss=torch.nn.CrossEntropyLoss", "--model.loss.init_args.label_smoothing=0.1"]
    assert main([*fit_arguments(corpus, tmp_path), *loss]) == 0
    assert main(["fit", f"--run={tmp_path}", "--trainer.max_epochs=2"]) == 0
    assert main(["test", f"--run={tmp_path}"]) == 0
    best = tmp_path / "checkpoints" / "best.ckpt"
    model = ExpressionModule.load_from_checkpoint(best, weights_only=True)
    assert isinstance(model.loss.loss, nn.CrossEntropyLoss)
    assert model.loss.loss.label_smoothing == 0.1
    assert torch.load(best, weights_only=True)["epoch"] in (0, 1)
