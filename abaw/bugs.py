"""Errors that are no fault of the input, told in a line: whose they are, and where."""

import re
import sysconfig
import traceback
from pathlib import Path
from typing import Final

_ABAW: Final = str(Path(__file__).parent)
_INSTALLED: Final = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_FRAME: Final = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)


def tell_bug(error: BaseException) -> str:
    """One line for an error that nobody foresaw.

    Args:
        error: With its traceback; those of a DataLoader's worker and of other ranks are found in its text.

    Returns:
        What it is, and its innermost place in a file of the user's own, else in this library.
    """
    said = what_is_said(error)
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
        return f"out of memory: take a smaller data.batch_size or data.window, or fewer workers ({said})"
    if own := own_place(error):
        return f"{own}: {said} (an error in code of your own; --debug shows the way to it)"
    places = [(file, line) for file, line in _places(error) if file.startswith(_ABAW)]
    where = "{}, line {}: ".format(*places[-1]) if places else ""
    return f"{where}{said} (a bug: please report it, with what --debug shows)"


def what_is_said(error: BaseException) -> str:
    """The kind of an error and its message, in one line."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    # A worker's error holds its traceback in its text, and what it says in the last line.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if _FRAME.search(str(error)):
        return lines[-1]
    return f"{type(error).__name__}: {' '.join(lines)}" if lines else type(error).__name__


def own_place(error: BaseException) -> str | None:
    """``"my_head.py, line 12"``: the innermost place in a file that is not installed, and not abaw's."""
    own = [
        (file, line)
        for file, line in _places(error)
        if not file.startswith((_ABAW, *_INSTALLED, "<")) and not file.endswith(("/bin/abaw", "abaw.exe"))
    ]
    return "{}, line {}".format(*own[-1]) if own else None


def _places(error: BaseException) -> list[tuple[str, int]]:
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    frames += [(file, int(line)) for file, line in _FRAME.findall(str(error))]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno or 0))
    return frames
