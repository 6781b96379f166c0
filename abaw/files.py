"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from abaw.errors import InputError


def make_writable(folder: Path) -> None:
    """Make a folder, and find out before any work is done that files can be written there.

    Raises:
        InputError: If they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another output folder"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under another name in its folder, which is made if need be, and put it in place when done.

    Args:
        path: The file to write or to replace. It is untouched if the block raises.

    Yields:
        The name to write to.

    Raises:
        InputError: If the path is a folder's.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make files that nobody else may read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
