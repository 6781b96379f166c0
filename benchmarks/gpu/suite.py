"""The tests marked `gpu`."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import torch

from gpu.report import Goal, Report, Sizes


def measure(report: Report, sizes: Sizes) -> None:
    # The files alone that have any: the others import what this machine need not have.
    files = [
        path for path in sorted(sizes.source.glob("tests/**/test_*.py")) if "mark.gpu" in path.read_text()
    ]
    results = sizes.scratch / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-v", "-m", "gpu"]
    command += ["-p", "no:cacheprovider", f"--junitxml={results}"]
    configuration = ["-c", str(sizes.source / "pyproject.toml"), "--rootdir", str(sizes.source)]
    with report.guard("tests"):
        subprocess.run([*command, *configuration, *map(str, files)], check=False)
        counts: dict[str, list[str]] = {"passed": [], "failure": [], "error": [], "skipped": []}
        for case in ElementTree.parse(results).iter("testcase"):
            kind = next((child.tag for child in case if child.tag in counts), "passed")
            counts[kind].append(str(case.get("name")))
        broken = counts["failure"] + counts["error"]
        chosen = sum(map(len, counts.values()))
        ran = torch.cuda.is_available()
        report.row(
            "tests that pass" if ran else "tests that are found and skipped",
            len(counts["passed" if ran else "skipped"]),
            limit=chosen,
            limit_is="chosen",
            goal=Goal("≥", 1.0, of_limit=True),
            note=f"not: {', '.join(broken)}" if broken else "",
        )
