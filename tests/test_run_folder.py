"""A training that replaces another: never old weights beside the new configuration, nothing lost before."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from small import fit_arguments, told_in_one_line

from abaw.callbacks import RunCheckpoint
from abaw.cli import main
from abaw.folder_lock import FolderLock
from abaw.module import ExpressionModule
from abaw.run_folder import RunConfig

NEW = ["--model.lr=0.5", "--trainer.limit_train_batches=1"]


class Killed(BaseException):
    """What no code gets to see of a kill, but a test needs to stop there."""


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main([*fit_arguments(corpus, folder), "--trainer.limit_train_batches=1"]) == 0
    (folder / "postprocess.yaml").write_text("tuned")
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(owner, name, die)
    monkeypatch.setattr(RunCheckpoint, "on_exception", lambda *_: None)


def test_killed_before_its_first_checkpoint_there_is_nothing_to_resume(
    run: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_at(monkeypatch, ExpressionModule, "training_step")
    with pytest.raises(Killed):
        main([*fit_arguments(corpus, run), *NEW])
    monkeypatch.undo()
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["lr"] == 0.5
    assert list((run / "checkpoints").iterdir()) == []
    assert not (run / "postprocess.yaml").exists()
    assert "holds no last.ckpt" in told_in_one_line(["fit", f"--run={run}"], capsys)
    assert main([*fit_arguments(corpus, run), *NEW]) == 0  # nothing is in the way
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["hyper_parameters"]["lr"] == 0.5


def test_killed_while_it_takes_over_the_old_run_is_not_lost(
    run: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run)
    kill_at(monkeypatch, RunConfig, "save_config")
    with pytest.raises(Killed):
        main([*fit_arguments(corpus, run), *NEW])
    after = contents(run)
    assert after["config.yaml"] == before["config.yaml"]
    for name in ("checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert after[f"{name}.replaced"] == before[name]
        assert name not in after


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--trainer.max_epochs=-1"], 2),  # told when the optimizer is made, after the start
        (["--trainer.fast_dev_run=1"], 0),
    ],
)
def test_what_does_not_train_leaves_a_run_as_it_was(
    options: list[str], status: int, run: Path, corpus: Path
) -> None:
    before = contents(run)
    assert main([*fit_arguments(corpus, run), *NEW, *options]) == status
    assert contents(run) == before


def test_a_run_that_is_being_written_is_left_alone(
    run: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = sorted(run.rglob("*"))
    before = contents(run)
    with FolderLock(run):
        for arguments in (fit_arguments(corpus, run), ["fit", f"--run={run}"], ["tune", f"--run={run}"]):
            assert f"{run}: process " in told_in_one_line(arguments, capsys)
        assert {k: v for k, v in contents(run).items() if not k.startswith(".abaw")} == before
        (run / "postprocess.yaml").unlink()
        assert main(["validate", f"--run={run}", "--trainer.enable_progress_bar=false"]) == 0  # readers may
    (run / "postprocess.yaml").touch()
    assert sorted(run.rglob("*")) == entries
