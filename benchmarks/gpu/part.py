"""One part, in a process of its own; `gpu.run` starts it."""

import argparse
import importlib
import os
import sys
from pathlib import Path

from gpu.report import Measure, Report, Sizes
from gpu.run import SOURCE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("function", help="module:function")
    parser.add_argument("title", help="what the table calls it")
    parser.add_argument("rows", type=Path, help="file of its figures")
    parser.add_argument("deadline", type=float, help="when it will be killed, seconds since 1970")
    parser.add_argument("--small", action="store_true", help="tiny sizes")
    given = parser.parse_args()
    module, function = given.function.split(":")
    measure: Measure = getattr(importlib.import_module(module), function)
    report = Report(given.title, given.rows, given.deadline)
    scratch = Path.cwd()
    measure(report, Sizes(given.small, scratch, scratch / SOURCE))
    # All is written: compilers, loaders and the driver need not be taken down one by one.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
