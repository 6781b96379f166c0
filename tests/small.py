"""Options that make the quickstart's model small enough to train in seconds, with the same parts."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from abaw.cli import main
from abaw.data import AffWild2DataModule


class OwnDataModule(AffWild2DataModule):
    """As a user may subclass it."""


EXAMPLES = Path(__file__).parents[1] / "examples"
QUICKSTART = EXAMPLES / "quickstart.yaml"
SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--data.num_workers=0",
    "--data.image_size=32",
    "--model.visual_encoder.init_args.out_features=16",
    "--model.audio_encoder.init_args.out_features=16",
    "--model.fusion.init_args.dim=16",
]


def fit_arguments(corpus: Path, run: Path) -> list[str]:
    """What follows `abaw` to train the small model."""
    where = [f"--data.root={corpus}", f"--trainer.default_root_dir={run}"]
    return ["fit", f"--config={QUICKSTART}", *where, *SMALL]


def told_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line that a command refuses its input with."""
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("abaw: error: ")]
    assert len(lines) == 1
    return lines[0]


@contextmanager
def little_room(size: int = 4096) -> Iterator[None]:
    """No file can be larger: the system answers as where a disk is full, with another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
