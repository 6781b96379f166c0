"""Class weights and frequencies from the training labels, through the command line."""

import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from small import fit_arguments

from abaw import ExpressionModule
from abaw.cli import main

ALPHA = "--model.loss.init_args.alpha"


def count_labels(files: list[Path]) -> list[int]:
    counts = Counter(row for file in files for row in file.read_text().split()[1:])
    return [counts[str(label)] for label in range(8)]


def training_files(corpus: Path) -> list[Path]:
    return list(corpus.glob("EXPR_*/Train_Set/*.txt"))


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose loss weighs classes by a scheme."""
    folder = tmp_path_factory.mktemp("weighted") / "run"
    assert main([*fit_arguments(corpus, folder), f"{ALPHA}=sqrt", "--trainer.limit_train_batches=2"]) == 0
    return folder


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("abaw: error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_scheme_takes_the_training_labels(run: Path, corpus: Path) -> None:
    counts = count_labels(training_files(corpus))
    model = ExpressionModule.load_from_checkpoint(run / "checkpoints" / "last.ckpt")
    raw = [1 / math.sqrt(count) for count in counts]
    assert model.loss.weight.tolist() == pytest.approx([8 * weight / sum(raw) for weight in raw])
    assert model.hparams["loss"]["init_args"]["class_counts"] == counts
    # What was typed stays as it was typed, for a run on another corpus or fold.
    loss = yaml.safe_load((run / "config.yaml").read_text())["model"]["loss"]["init_args"]
    assert loss["alpha"] == "sqrt"
    assert "class_counts" not in loss


def test_a_trained_model_keeps_its_weights_without_the_training_labels(
    run: Path, corpus: Path, tmp_path: Path
) -> None:
    other = tmp_path / "corpus"
    shutil.copytree(corpus, other)
    for file in training_files(other):
        file.unlink()
    assert (
        main(["validate", f"--run={run}", f"--data.root={other}", "--trainer.enable_progress_bar=false"]) == 0
    )


def test_other_labels_are_refused_when_resuming(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", f"--run={run}", "--data.folds=2", "--trainer.max_epochs=2"]
    assert "last.ckpt was trained with model.loss.init_args.class_counts=[" in error_of(arguments, capsys)


@pytest.mark.parametrize("loss", ["LogitAdjustedLoss", "BalancedSoftmaxLoss"])
def test_losses_of_frequencies_take_those_of_the_fold(loss: str, corpus: Path, tmp_path: Path) -> None:
    options = ["--data.folds=4", "--data.fold=3", "--trainer.limit_train_batches=1"]
    assert main([*fit_arguments(corpus, tmp_path), f"--model.loss={loss}", *options]) == 0
    model = ExpressionModule.load_from_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert type(model.loss).__name__ == loss
    counts = model.hparams["loss"]["init_args"]["class_counts"]
    everything = count_labels(list(corpus.glob("EXPR_*/*_Set/*.txt")))
    assert counts != count_labels(training_files(corpus))
    assert 0.5 < sum(counts) / sum(everything) < 0.9
    assert all(own <= whole for own, whole in zip(counts, everything, strict=True))
    expected = torch.tensor(counts).double().log().log_softmax(dim=0)
    torch.testing.assert_close(model.loss.adjustment.double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (f"{ALPHA}=invers", "no scheme 'invers' of class weights; there are inverse, sqrt, effective"),
        (f"{ALPHA}=[1, heavy]", "model.loss.init_args.alpha: expects float. Got value: heavy; expects str"),
        ("--model.loss.init_args.gama=3", "FocalLoss has no argument 'gama'; did you mean gamma?"),
        ("--model.loss=BalancedSoftmax", "There are BalancedSoftmaxLoss, FocalLoss, LogitAdjustedLoss"),
        ("--model.loss=ConcatFusion", "ConcatFusion is no FrameLoss"),
        (
            "--model.loss={class_path: torch.nn.CrossEntropyLoss, init_args: {gamma: 2}}",
            "CrossEntropyLoss has no argument 'gamma'",
        ),
        (
            "--model.loss={class_path: torch.nn.CrossEntropyLoss, init_args: {weight: [1, 2]}}",
            "abaw.losses.TorchLoss and init_args: {loss: CrossEntropyLoss, arguments: {weight: […]}}",
        ),
        ("--model.loss.init_args.class_counts=[1, 2]", "follows from the training labels: leave it out"),
    ],
)
def test_mistakes_are_told_in_one_line(
    option: str, words: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = error_of([*fit_arguments(corpus, tmp_path / "run"), option], capsys)
    assert words in said
    assert "Tensor" not in said
    assert not (tmp_path / "run").exists()
