"""``abaw``, run in this process."""

import io
import sys
from contextlib import redirect_stderr

from abaw.cli import main


class Heard(io.StringIO):
    """Keeps what is written to standard error, beside passing it on."""

    def write(self, text: str) -> int:
        assert sys.__stderr__ is not None
        sys.__stderr__.write(text)
        return super().write(text)


def command(*arguments: str) -> None:
    """Run ``abaw``.

    Raises:
        RuntimeError: It ended with another status than 0; the last line that it told.
    """
    with redirect_stderr(Heard()) as heard:
        status = main(arguments)
    if status:
        told = heard.getvalue().strip().splitlines() or [""]
        raise RuntimeError(f"abaw {arguments[0]} ended with status {status}: {told[-1]}")
