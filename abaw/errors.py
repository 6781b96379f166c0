"""The exceptions that are told in a line, and what helps to say what was meant."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input, told in one line: what is wrong, in which file, and what to do.

    The ``abaw`` command prints the message without a stack trace and exits with 2. Code that uses the library
    can catch it as a ``ValueError``.
    """


class OwnCodeError(RuntimeError):
    """An error within a class of the user's own, told in one line that names the class and the place.

    The ``abaw`` command prints the message without a stack trace and exits with 1.
    """


def did_you_mean(name: str, there_are: Iterable[str]) -> str:
    """``"; did you mean window?"`` if one of the names is near, else nothing."""
    near = difflib.get_close_matches(name, list(there_are), n=1, cutoff=0.75)
    return f"; did you mean {near[0]}?" if near else ""
