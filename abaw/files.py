"""Files that are there whole or not at all, and folders without what systems leave in them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from abaw.errors import InputError

_STRAY: Final = {"thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "__macosx", "lost+found"}


def is_stray(name: str) -> bool:
    """Whether a file or folder of this name was left by a system, not put there by anybody.

    >>> [name for name in ("v.txt", "._v.txt", ".DS_Store", "Thumbs.db", "@eaDir") if not is_stray(name)]
    ['v.txt']
    """
    return name.startswith((".", "$RECYCLE")) or name.lower() in _STRAY


def check_name(name: str, where: str | Path = "") -> None:
    """Refuse a video's name that no file can be called by: names may come from lists that anyone has written.

    Args:
        name: The name; files called so must not lead out of their folder, nor be hidden in it.
        where: The list that it comes from, if one is known.

    Raises:
        InputError: It has a path separator, or is one of those that `visible` passes over.
    """
    if Path(name).name != name or is_stray(name):
        problem = "having a path separator" if Path(name).name != name else "as systems name their own files"
        prefix = f"{where}: " if str(where) else ""
        raise InputError(f"{prefix}{name!r} is no video's name, {problem}; correct the list.")


def visible(folder: Path, ending: str = "") -> list[Path]:
    """What a folder holds, by name, without what systems leave behind; nothing where there is no folder.

    Args:
        folder: The folder.
        ending: How the names end, in any case; by default any.
    """
    if not folder.is_dir():
        return []
    names = (name for name in os.listdir(folder) if not is_stray(name) and name.lower().endswith(ending))
    return [folder / name for name in sorted(names)]


def expand(path: str | Path) -> Path:
    """A path as a user writes it: ``~`` is the home folder.

    Raises:
        InputError: It begins with ``~name``, and nobody is called so.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: nobody here has that home folder; write the whole path.") from error


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
