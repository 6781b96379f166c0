"""All that wants a CUDA device, in one run of under 8 minutes; see `benchmarks/README.md`.

    benchmarks/gpu.sh --wheels DIR     where there is a network: fetch what the machine lacks
    benchmarks/gpu.sh --from DIR       on the machine: measure
    benchmarks/gpu.sh --small          everything with tiny sizes on a CPU

Each part has a process and a time limit of its own; what it has measured until then is kept. The exit status
is 0 where every part ran to its end, whether goals are met or not.
"""

import argparse
import sys
from pathlib import Path

from gpu.run import CHECKOUT, PARTS, run
from gpu.wheels import fetch


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="gpu.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="fetch the wheels into this folder, and stop"
    )
    parser.add_argument(
        "--from", type=Path, metavar="DIR", dest="folder", help="folder of the fetched wheels"
    )
    parser.add_argument("--small", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=[], metavar="PART", help=", ".join(PARTS)
    )
    results = CHECKOUT / "benchmarks" / "results"
    parser.add_argument(
        "--out", type=Path, default=results, metavar="DIR", help="default: benchmarks/results"
    )
    given = parser.parse_args()
    if given.wheels is not None:
        fetch(given.wheels, CHECKOUT / "pyproject.toml")
        return 0
    return run(given.out, given.folder, given.small, given.parts)


if __name__ == "__main__":
    sys.exit(main())
