"""One process writes into a folder; nothing that was killed stays in the way."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import SoftFileLock

from abaw.callbacks import PredictionWriter, TestReport
from abaw.callbacks.feature_writer import FeatureWriter
from abaw.callbacks.tuner import PostprocessTuner
from abaw.ensemble import predict_average
from abaw.errors import InputError
from abaw.folder_lock import FolderLock, LockingCallback
from abaw.run_folder import RunConfig

HOLD = """
import sys
from pathlib import Path
from abaw.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes into the folder until it is killed."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def make_trainer(folder: Path, broadcast=lambda value: value, **more):
    strategy = SimpleNamespace(broadcast=broadcast, barrier=lambda name: None)
    given = {"default_root_dir": str(folder), "is_global_zero": True, "fast_dev_run": False}
    return SimpleNamespace(strategy=strategy, **given | more)


def test_the_holder_is_named_and_a_killed_one_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with held_by_another(folder) as process:
        with pytest.raises(InputError) as caught:
            FolderLock(folder)
        line = str(caught.value)
        assert line.startswith(f"{folder}: process {process.pid} on {socket.gethostname()} (-c {folder})")
        assert "choose another folder" in line
        assert "\n" not in line
        process.send_signal(signal.SIGKILL)
        process.wait()
        with FolderLock(folder):
            assert json.loads((folder / ".abaw.holder").read_text())["process"] == os.getpid()
    assert not folder.exists() or not list(folder.iterdir())


def test_what_was_made_for_nothing_goes_again_and_what_was_written_stays(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "none"):
        assert (tmp_path / "none").is_dir()
    assert not (tmp_path / "none").exists()
    with FolderLock(tmp_path / "some"):
        (tmp_path / "some" / "file").touch()
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["file"]


def test_a_marker_of_another_host_is_told_how_to_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abaw.folder_lock.FileLock", SoftFileLock)  # as where the file system has no locks
    lock = FolderLock(tmp_path)
    holder = json.loads((tmp_path / ".abaw.holder").read_text())
    (tmp_path / ".abaw.holder").write_text(json.dumps(holder | {"host": "node7"}))
    with pytest.raises(InputError, match=rf"on node7 .*if it is gone, remove {tmp_path}/\.abaw\.lock$"):
        FolderLock(tmp_path)
    (tmp_path / ".abaw.holder").unlink()
    with pytest.raises(InputError, match=r"another process is writing there.*remove"):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()


def test_a_file_system_without_locks_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("abaw.folder_lock.FileLock.acquire", refuse)
    with pytest.warns(UserWarning, match="cannot be locked"):
        FolderLock(tmp_path).release()


@pytest.mark.parametrize(
    ("make", "stage", "inner"),
    [
        (lambda folder: RunConfig(None, None, save_to_log_dir=False), "fit", ""),
        (lambda folder: PostprocessTuner(), "validate", ""),
        (lambda folder: TestReport(), "test", "test"),
        (lambda folder: PredictionWriter(), "predict", "predictions"),
        (lambda folder: FeatureWriter(folder), "predict", ""),
    ],
)
def test_all_that_write_lock_their_folder(make, stage: str, inner: str, tmp_path: Path) -> None:
    callback, folder = make(tmp_path), tmp_path / inner
    assert callback.locked_folder(make_trainer(tmp_path), stage) == folder
    if not isinstance(callback, FeatureWriter):
        assert callback.locked_folder(make_trainer(tmp_path, fast_dev_run=True), stage) is None
        assert callback.locked_folder(make_trainer(tmp_path), "sanity") is None
    trainer = make_trainer(tmp_path)
    first = make(tmp_path)
    LockingCallback.setup(first, trainer, None, stage)
    with pytest.raises(InputError, match=f"{folder}: process {os.getpid()} "):
        LockingCallback.setup(callback, trainer, None, stage)
    for end in (
        lambda: LockingCallback.teardown(first, trainer, None, stage),
        lambda: LockingCallback.on_exception(first, trainer, None, ValueError()),
    ):
        end()
        LockingCallback.setup(first, trainer, None, stage)
    LockingCallback.teardown(first, trainer, None, stage)


def test_ranks_share_the_first_ones_lock_and_stop_together(tmp_path: Path) -> None:
    said: list[str | None] = []

    def tell(value: str | None) -> str | None:
        said.append(value)
        return said[0]  # the first rank's

    first, second = PredictionWriter(), PredictionWriter()
    first.setup(make_trainer(tmp_path, tell), None, "predict")
    second.setup(make_trainer(tmp_path, tell, is_global_zero=False), None, "predict")
    assert said == [None, None]
    first.teardown(make_trainer(tmp_path), None, "predict")

    with FolderLock(tmp_path / "predictions"):
        said.clear()
        for zero in (True, False):
            with pytest.raises(InputError, match="is writing there"):
                PredictionWriter().setup(make_trainer(tmp_path, tell, is_global_zero=zero), None, "predict")


def test_an_average_is_written_by_one(tmp_path: Path) -> None:
    with FolderLock(tmp_path), pytest.raises(InputError, match="is writing there"):
        predict_average(["a", "b"], tmp_path, lambda run, folder: pytest.fail("not alone"))
