"""One at a time: a folder that is being written is told to whoever wants to write it too."""

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import lightning.pytorch as pl
from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from abaw.errors import InputError
from abaw.files import make_writable

_LOCK: Final = ".abaw.lock"
_HOLDER: Final = ".abaw.holder"


class FolderLock:
    """A folder's lock, which the operating system takes back when its process ends, however it does.

    Readers are not held up. Where a file system has no such locks, a marker file stands for it, which is
    taken from a process that is gone, but not from one of another host.

    Args:
        folder: The folder, made if need be.

    Raises:
        InputError: If another process holds it, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = not folder.exists()
        make_writable(folder)
        self._lock = FileLock(str(folder / _LOCK), timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise InputError(self._told()) from error
        except (OSError, NotImplementedError) as error:
            rank_zero_warn(f"{folder}: cannot be locked ({error}); see to it that nobody else writes there")
            return
        holder = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
        }
        (folder / _HOLDER).write_text(json.dumps(holder), encoding="utf-8")

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others in; a folder that was made and not written to goes again."""
        if self._lock.is_locked:
            # Removed while they are held, so that nobody else's are.
            for name in (_HOLDER, _LOCK):
                with suppress(OSError):
                    (self.folder / name).unlink()
            self._lock.release()
        if self._made:
            with suppress(OSError):
                self.folder.rmdir()

    def _told(self) -> str:
        try:
            holder = json.loads((self.folder / _HOLDER).read_text(encoding="utf-8"))
            host = holder["host"]
            who = f"process {holder['process']} on {host} ({holder['command']})"
        except (OSError, ValueError, LookupError, TypeError):
            host, who = None, "another process"
        gone = f"; if it is gone, remove {self.folder / _LOCK}" if host != socket.gethostname() else ""
        return f"{self.folder}: {who} is writing there: wait for it, or choose another folder{gone}"


class LockingCallback(Callback):
    """A callback that writes into a folder alone, from its set-up to its end: the base of those that do.

    The first rank holds the lock for all of them; where it can't be had, every rank stops.
    """

    _folder_lock: FolderLock | None = None

    def locked_folder(self, trainer: pl.Trainer, stage: str) -> Path | None:
        """The folder that is written to in ``stage``; ``None`` for none."""
        raise NotImplementedError

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Lock the folder.

        Raises:
            InputError: If another process is writing there, or it cannot be written.
        """
        super().setup(trainer, pl_module, stage)
        folder = self.locked_folder(trainer, stage)
        if folder is None:
            return
        problem = None
        if trainer.is_global_zero:
            try:
                self._folder_lock = FolderLock(folder)
            except InputError as error:
                problem = str(error)
        if problem := trainer.strategy.broadcast(problem):
            raise InputError(problem)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let others write."""
        super().teardown(trainer, pl_module, stage)
        self._release()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Let others write."""
        super().on_exception(trainer, pl_module, exception)
        self._release()

    def _release(self) -> None:
        if self._folder_lock is not None:
            self._folder_lock.release()
            self._folder_lock = None
