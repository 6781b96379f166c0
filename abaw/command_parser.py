"""The parser of the commands that need no Trainer."""

import argparse
from typing import NoReturn

from abaw.errors import InputError, did_you_mean


class CommandParser(argparse.ArgumentParser):
    """Refuses arguments as everything else is refused: in one line, by an :class:`InputError`."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the arguments."""
        option = message.removeprefix("unrecognized arguments: ").partition("=")[0].split(" ")[0]
        near = did_you_mean(option, self._option_string_actions) if option.startswith("--") else ""
        raise InputError(f"{message}{near}; '{self.prog} --help' lists the options")
