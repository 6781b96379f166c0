import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from abaw.scratch import in_use, remove_left, scratch_folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def leave(folder: Path, seconds_ago: float = 120) -> Path:
    """A folder as a killed process leaves it."""
    (folder / "crops").mkdir(parents=True)
    (folder / "crops" / "00001.jpg").touch()
    (folder / ".lock").touch()
    then = time.time() - seconds_ago
    os.utime(folder / ".lock", (then, then))
    return folder


def test_a_folder_is_there_for_the_block(temporary: Path):
    with scratch_folder() as folder:
        assert folder.parent == temporary
        (folder / "file").touch()
        with pytest.raises(TimeoutError):
            FileLock(str(folder / ".lock"), timeout=0).acquire()
    assert list(temporary.iterdir()) == []
    with pytest.raises(RuntimeError), scratch_folder() as folder:
        raise RuntimeError
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_has_left_is_removed(temporary: Path):
    left = leave(temporary / "abaw-left")
    others = [leave(temporary / "abaw-young", 5), leave(temporary / "somebody-elses")]
    (temporary / "abaw-folder").mkdir()
    with scratch_folder():
        assert not left.exists()
    assert all((other / "crops" / "00001.jpg").exists() for other in others)
    assert (temporary / "abaw-folder").is_dir()


def test_what_is_in_use_stays(tmp_path: Path):
    folder = leave(tmp_path / "a")
    with in_use(folder):
        then = time.time() - 120
        os.utime(folder / ".lock", (then, then))
        remove_left([folder])
        assert (folder / "crops" / "00001.jpg").exists()
    assert [path.name for path in folder.iterdir()] == ["crops"]
