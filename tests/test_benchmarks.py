"""What the benchmarks claim of memory; their times are for a person to judge."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video() -> None:
    command = [sys.executable, BENCHMARKS / "inference.py", "memory", "--minutes", "1", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in done.stdout.splitlines() if " min " in line]
    assert [(row[0], row[1]) for row in rows] == [("1 min", "1500"), ("5 min", "7500")]
    assert float(rows[1][-1]) < 1.05
