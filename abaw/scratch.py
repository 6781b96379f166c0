"""Folders for what is needed for a while, which go even where their process was killed."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

_PREFIX: Final = "abaw-"
_LOCK: Final = ".lock"
_YOUNG: Final = 60.0  # seconds for which a lock that nobody holds may be about to be taken


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder in ``$TMPDIR``, for the block; those of processes that were killed are removed."""
    remove_left(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name,
        in_use(Path(name)),
    ):
        yield Path(name)


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Hold a folder's lock for the block: the operating system takes it back, however the process ends.

    Args:
        folder: The folder, which nobody else uses.
    """
    lock = FileLock(str(folder / _LOCK), timeout=0, thread_local=False)
    # On a file system without locks, nobody else can take it either.
    with suppress(OSError, NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)
        lock.release()


def remove_left(folders: Iterable[Path]) -> None:
    """Remove those folders that a process was using when it was killed."""
    for folder in folders:
        # Another user's, or one that goes at this moment: not ours to remove.
        with suppress(OSError, NotImplementedError, Timeout):
            lock = folder / _LOCK
            if not lock.is_file() or time.time() - lock.stat().st_mtime < _YOUNG:
                continue
            if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
                continue
            with FileLock(str(lock), timeout=0, thread_local=False):
                shutil.rmtree(folder, ignore_errors=True)
