"""The one exception that means "what you gave me is wrong", never "I have a bug"."""


class InputError(ValueError):
    """Bad input, told in one line: what is wrong, in which file, and what to do.

    The ``abaw`` command prints the message without a stack trace and exits with 2. Code that uses the library
    can catch it as a ``ValueError``.
    """
