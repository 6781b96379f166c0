"""``abaw synth``: write a synthetic corpus."""

import signal
import sys
import threading
from typing import NoReturn

from abaw.command_parser import CommandParser


def main(argv: list[str]) -> int:
    """Run ``abaw synth`` with its arguments; return the exit status, 130 after Ctrl-C.

    Raises:
        InputError: If an argument is wrong, or the folder cannot be written.
    """
    parser = CommandParser(
        prog="abaw synth",
        description="Write a small corpus of drawn faces and synthesised voices, in Aff-Wild2's layout.",
    )
    parser.add_argument("root", metavar="ROOT", help="folder to make")
    parser.add_argument(
        "--videos", type=int, default=40, metavar="N", help="how many videos (default: %(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, default=300, metavar="N", help="labels of each (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="equal seeds give equal files (default: %(default)s)"
    )
    parser.add_argument(
        "--weakest",
        type=float,
        default=0.75,
        metavar="SHARE",
        help="least strength of an expression; lower is harder (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an older synthetic corpus")
    args = parser.parse_args(argv)

    from abaw.synth.corpus import write_corpus  # OpenCV and PyAV: not for --help

    before = signal.getsignal(signal.SIGTERM)
    ours = threading.current_thread() is threading.main_thread() and before == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _end)
    try:
        write_corpus(
            args.root,
            args.videos,
            args.frames,
            args.seed,
            overwrite=args.overwrite,
            weakest=args.weakest,
        )
    except KeyboardInterrupt:
        print("abaw synth: interrupted, nothing was written", file=sys.stderr)
        return 130
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before)
    return 0


def _end(signum: int, _: object) -> NoReturn:
    """Have what is unfinished tidied away; the exit status is what shells tell."""
    raise SystemExit(128 + signum)
