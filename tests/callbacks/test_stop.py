"""Signals: where a training stops, what it leaves, and that going on gives what it would have given."""

import csv
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from signals import signalling
from small import fit_arguments

from abaw.cli import main

pytestmark = pytest.mark.slow

# 15 batches an epoch; the validation after the 7th falls among batches that are accumulated.
TWO_EPOCHS = [
    "--trainer.max_epochs=2",
    "--trainer.accumulate_grad_batches=4",
    "--trainer.val_check_interval=0.5",
    "--data.batch_size=2",
    "--data.window=16",
]


def last(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same(run: Path, other: Path) -> None:
    """The runs' last weights are equal, and so are what they were validated at and their scores."""
    for name, value in last(run)["state_dict"].items():
        assert torch.equal(last(other)["state_dict"][name], value), name
    assert scores(run) == scores(other)


def scores(run: Path) -> list[tuple[str, str, str]]:
    """Epoch, step and value of each validation, over all parts of a run."""
    return [(row["epoch"], row["step"], row["val/f1"]) for row in rows(run) if row.get("val/f1")]


def rows(run: Path) -> list[dict[str, str]]:
    """What was logged, over all parts of a run."""
    logs = sorted(run.glob("logs/*/metrics.csv"))
    return [row for log in logs for row in csv.DictReader(log.read_text().splitlines())]


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*fit_arguments(corpus, folder), *TWO_EPOCHS]) == 0
    return folder


@pytest.mark.parametrize(
    ("hook", "signum", "settings", "steps"),
    [
        ("on_train_batch_start", signal.SIGTERM, {"call": 2}, 5),  # the group of batches is completed
        ("on_train_batch_end", signal.SIGINT, {"call": 8}, 6),
        ("on_train_batch_end", signal.SIGHUP, {"call": 15, "epoch": 0}, 4),  # where validation is due
        ("on_validation_batch_start", signal.SIGTERM, {"call": 2, "epoch": 0}, 2),  # among accumulated ones
        ("on_validation_epoch_start", signal.SIGTERM, {"call": 2, "times": 3}, 8),
    ],
)
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    hook: str, signum: signal.Signals, settings: dict[str, int], steps: int, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    corpus = Path(yaml.safe_load((whole / "config.yaml").read_text())["data"]["init_args"]["root"])
    asked = signalling(hook, signum, **settings)
    assert main([*fit_arguments(corpus, run), *TWO_EPOCHS, *asked]) == 128 + signum
    assert last(run)["global_step"] == steps
    assert main(["fit", f"--run={run}", "--trainer.callbacks=null", "--trust=signals"]) == 0
    assert_same(run, whole)


EARLY = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/f1"]


@pytest.mark.parametrize("limit", [[], ["--trainer.max_steps=8", "--trainer.max_epochs=-1"]])
def test_a_run_that_was_killed_goes_on_after_the_last_epoch_that_it_had_ended(
    limit: list[str], whole: Path, corpus: Path, tmp_path: Path
) -> None:
    arguments = [*fit_arguments(corpus, tmp_path), *TWO_EPOCHS, *limit, *EARLY]
    arguments += ["--trainer.callbacks.check_on_train_epoch_end=true", "--trainer.callbacks.patience=9"]
    assert main([*arguments, "--trainer.callbacks+=signals.Crash"]) not in (0, 2)
    assert last(tmp_path)["global_step"] == 4
    (tmp_path / "config.yaml").write_text((tmp_path / "config.yaml").read_text())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*checkpoint that ended before the epoch ended")
        assert main([*arguments, f"--ckpt_path={tmp_path}/checkpoints/last.ckpt"]) == 0
    assert_same(tmp_path, whole)
    assert [row["epoch"] for row in rows(tmp_path) if row.get("train/f1")] == ["0", "1"]


def test_a_run_that_has_ended_says_how_to_go_on(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = last(whole)
    assert main(["fit", f"--run={whole}"]) == 0
    assert "2 epochs are done. To go on, raise it: --trainer.max_epochs " in capsys.readouterr().out
    assert last(whole)["global_step"] == before["global_step"]


@pytest.mark.parametrize(
    ("command", "hook", "folder"),
    [
        (["test"], "on_test_batch_start", "test"),
        (["predict"], "on_predict_batch_start", "predictions"),
        (["extract", "features"], "on_predict_batch_start", "features"),
    ],
)
def test_anything_but_training_stops_at_once_and_leaves_no_half_a_file(
    command: list[str], hook: str, folder: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = signalling(hook, signal.SIGTERM, epoch=0, call=1)
    assert main([*command, f"--run={whole}", *asked]) == 143
    written = [*(whole / folder).rglob("*"), *tmp_path.rglob("*")]
    assert not [path for path in written if path.suffix == ".tmp"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_job_that_slurm_ends_is_queued_again_and_goes_on(
    whole: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = tmp_path / "queue"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {queue}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    job = {"JOB_ID": "7", "JOB_NAME": "train", "NTASKS": "1", "NODEID": "0", "PROCID": "0", "LOCALID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    run = tmp_path / "run"
    arguments = [*fit_arguments(corpus, run), *TWO_EPOCHS]
    asked = signalling("on_train_batch_start", signal.SIGUSR1)
    assert main([*arguments, *asked]) == 143
    assert queue.read_text() == "requeue 7\n"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*holds a run already")
        assert main(arguments) == 0
    assert_same(run, whole)
    assert not list(run.glob("hpc_ckpt_*"))
