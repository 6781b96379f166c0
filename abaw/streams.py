"""Standard output and error that end no command: any encoding, a closed pipe, or nothing there at all."""

import codecs
import io
import os
import sys
from typing import Final

_PLAIN: Final = {"–": "-", "…": "...", "×": "x", "−": "-", "━": "-", "•": "*"}


class _Lenient(io.RawIOBase):
    """A file descriptor whose reader may leave, as ``head`` does: what comes after is dropped."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        try:
            return os.write(self.descriptor, view)
        except BrokenPipeError:
            return view.nbytes


def prepare_streams() -> None:
    """Let nothing that is printed end a command.

    A character that the terminal's or the log's encoding lacks is written by one that it has, and the rest of
    a pipe that nobody reads any more is dropped. Where there is no standard stream, there is a null device.
    """
    codecs.register_error("abaw.plain", _plain)
    for name, descriptor in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number. Left free, the next file that is opened would take what is printed.
            os.open(os.devnull, os.O_RDWR)
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if descriptor == 0 else "w"
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        if descriptor > 0:
            _make_lenient(name, descriptor)


def _make_lenient(name: str, descriptor: int) -> None:
    stream = getattr(sys, name)
    if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
        if stream.fileno() == descriptor and not isinstance(getattr(stream.buffer, "raw", None), _Lenient):
            stream.flush()
            lenient = io.TextIOWrapper(
                io.BufferedWriter(_Lenient(descriptor)),
                encoding=stream.encoding,
                errors="abaw.plain",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, lenient)
            setattr(sys, f"__{name}__", lenient)
    elif isinstance(stream, io.TextIOWrapper):  # somebody else's, such as a test's
        stream.reconfigure(errors="abaw.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    refused = error.object[error.start : error.end]
    escaped = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode("ascii") for c in refused)
    return "".join(escaped), error.end
