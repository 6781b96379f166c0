"""The ``abaw`` command: a static table of what there is, and the way to it."""

import os
import sys
import traceback
from collections.abc import Sequence

from abaw.bugs import tell_bug
from abaw.errors import InputError, OwnCodeError, did_you_mean
from abaw.files import FULL
from abaw.streams import prepare_streams
from abaw.version import __version__

HELP = """\
usage: abaw <command> [options]

Facial expressions in the wild, from face and voice, either of which may be missing.

  synth ROOT      write a small synthetic corpus in Aff-Wild2's layout
  fit             train a model          --config FILE, or --run RUN to resume
  validate        score the validation videos    --run RUN
  test            score them with face and voice, each alone, and the majority    --run RUN
  robustness      score them with face or sound lost, frozen or late    --run RUN
  predict         write predictions.txt and scores for the test videos    --run RUN; several are averaged
  tune            fit what is done after the vote, for test and predict to take    --run RUN
  extract OUT     write the features of all videos, to train on    --run RUN, or --config FILE
  submit SCORES   write predictions.txt of predicted scores, or check one    --template FILE

  abaw <command> --help    the options of a command
  abaw <command> --debug   what went wrong, with the stack trace (so does ABAW_DEBUG=1)
  abaw --version           the version

RUN is the folder that fit writes (trainer.default_root_dir). Any option of the configuration can follow, such
as --data.root DIR or --trainer.max_epochs 20.
The exit status is 0, 2 for what was given wrong, or 1 for an error in a class of your own or in abaw.
"""
PACKAGES = {
    "av": "av",
    "cv2": "opencv-python-headless",
    "filelock": "filelock",
    "jsonargparse": "jsonargparse",
    "lightning": "lightning",
    "matplotlib": "matplotlib",
    "rich": "rich",
    "safetensors": "safetensors",
    "torchaudio": "torchaudio",
    "torchmetrics": "torchmetrics",
    "yaml": "PyYAML",
}
"""What the commands import and the library's parts do without: module to package."""
TRAINER_COMMANDS = ("fit", "validate", "test", "robustness", "predict", "tune", "extract")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: What follows ``abaw``; ``None`` means ``sys.argv[1:]``.

    Returns:
        The exit status: 0; 2 for bad input and 1 for an error in a class of the user's own or in abaw, which
        are told in one line on standard error; 130 after an interrupt.
    """
    prepare_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("ABAW_DEBUG", "0") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"abaw {__version__}")
        return 0
    try:
        return _run(arguments[0], arguments[1:])
    except KeyboardInterrupt:
        print("abaw: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        line, status = _tell(error)
    print(f"abaw: error: {line}", file=sys.stderr)
    return status


def _tell(error: Exception) -> tuple[str, int]:
    """One line for an error, and the exit status."""
    if isinstance(error, InputError):
        # A loader's process wraps the line in its stack trace, and puts the line last.
        return " ".join(str(error).rpartition("abaw.errors.InputError: ")[2].split()), 2
    if isinstance(error, OSError):
        hint = "; make room there, or choose another folder" if error.errno in FULL else ""
        return f"{error.filename or 'input or output'}: {error.strerror or error}{hint}", 2
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").partition(".")[0]
        if missing in PACKAGES:
            return f"{PACKAGES[missing]} is not installed, but the commands need it: pip install abaw", 2
    return str(error) if isinstance(error, OwnCodeError) else tell_bug(error), 1


def _run(command: str, arguments: list[str]) -> int:
    # Imported here: Lightning's command line takes seconds to load, and the corpus needs none of it.
    if command == "synth":
        from abaw.synth.cli import main as synth

        return synth(arguments)
    if command == "submit":
        from abaw.submit import main as submit

        return submit(arguments)
    if command in TRAINER_COMMANDS:
        # A class of one's own is found in the folder that the command is typed in, as by `python -m`.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        from abaw.trainer_commands import run

        return run(command, arguments)
    near = did_you_mean(command, (*TRAINER_COMMANDS, "synth", "submit"))
    raise InputError(f"there is no command {command!r}{near}; 'abaw --help' lists them")
