"""Files that are there whole or not at all, and folders without what systems leave in them."""

import errno
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from abaw.errors import InputError

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system answers where nothing more can be written: no space left, a quota, or a limit on files."""

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
        where: The file that it comes from, if one is known.

    Raises:
        InputError: It has a path separator, is not UTF-8, or one of those that `visible` passes over.
    """
    problem = ""
    if Path(name).name != name:
        problem = "having a path separator"
    elif not _is_utf8(name):
        problem = "not being UTF-8, without which files of scores and features can't be opened"
    elif is_stray(name):
        problem = "being one that systems give their own files"
    if problem:
        prefix = f"{_printable(where)}: " if str(where) else ""
        raise InputError(f"{prefix}{name!r} is no video's name, {problem}; correct the name.")


def check_utf8(path: Path) -> None:
    """Refuse a folder in which files of scores, features and sound can't be opened again.

    Raises:
        InputError: Its path is not UTF-8, which safetensors takes alone.
    """
    if not _is_utf8(str(path)):
        raise InputError(f"{_printable(path)}: is not UTF-8; rename the folder, or choose another.")


def composed(name: str) -> str:
    r"""A name in Unicode's composed form: macOS unpacks names decomposed, whatever they were.

    >>> composed("A\u0308") == "\u00c4"
    True
    """
    return unicodedata.normalize("NFC", name)


def by_name(folder: Path, ending: str) -> dict[str, Path]:
    """The files of a folder that end in exactly ``ending``, by the composed name before it.

    Raises:
        InputError: Two have the same.
    """
    files: dict[str, Path] = {}
    for path in visible(folder):
        if path.suffix == ending and (other := files.setdefault(composed(path.stem), path)) != path:
            raise InputError(f"{_printable(other)} and {str(path)!a} have one name; remove one of the two.")
    return files


def _printable(path: str | Path) -> str:
    return str(path).encode(errors="backslashreplace").decode()


def _is_utf8(text: str) -> bool:
    # Where bytes are no UTF-8, Python's names of files have half of a surrogate pair.
    return not any("\ud800" <= character <= "\udfff" for character in text)


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
        InputError: If they cannot, or could not be read again.
    """
    check_utf8(folder)
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
        OSError: If it can't be written; it says which file.
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
    except OSError as error:
        # Where a disk is full, the system doesn't say which file it was; else it says the temporary name.
        nameless = error.filename is None and error.errno in FULL
        if not nameless and error.filename != str(temporary):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
