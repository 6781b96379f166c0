"""Runs the parts, each in a process of its own with a time limit; needs no package."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpu.report import Row, read_rows, render, shortened
from gpu.wheels import install

CHECKOUT = Path(__file__).resolve().parents[2]
USED = ("abaw", "benchmarks", "examples", "tests", "pyproject.toml")
SOURCE, SITE = "source", "site"
"""In the scratch folder: a copy of what is used, for nothing is written in the checkout; the wheels."""


@dataclass(frozen=True)
class Part:
    """A process.

    Attributes:
        title: What the table calls it.
        seconds: Its limit; what earlier parts have left of theirs is added.
        function: What it runs, ``module:function``.
    """

    title: str
    seconds: int
    function: str


PARTS = {
    "prepare": Part("what the parts work on", 115, "gpu.prepare:measure"),
    "tests": Part("tests marked gpu", 115, "gpu.suite:measure"),
    "quickstart": Part("quickstart", 115, "gpu.quickstart:measure"),
    "ceilings": Part("ceilings of the card", 20, "gpu.ceilings:measure"),
    "attention": Part("safe cross-attention, bf16", 30, "gpu.attention:measure"),
    "beit": Part("BEiT-large, bf16", 75, "gpu.encoders:visual"),
    "wavlm": Part("WavLM-large, bf16", 50, "gpu.encoders:audio"),
    "videos": Part("whole videos", 55, "gpu.videos:measure"),
    "training": Part("20 training steps, bf16-mixed", 100, "gpu.training:measure"),
}
STAGES = (
    ("prepare", "tests", "quickstart"),  # side by side: none of them is timed
    *((name,) for name in ("ceilings", "attention", "beit", "wavlm", "videos", "training")),
)
# Tiny, no time means anything: all at once, but what they work on comes first.
SMALL_STAGES = (STAGES[0], tuple(name for stage in STAGES[1:] for name in stage))
SMALL_SECONDS = 300

_PROBE = """
import json, platform, torch
gpu = torch.cuda.is_available()
print(json.dumps({
    "device": torch.cuda.get_device_name() if gpu else None,
    "torch": torch.__version__,
    "python": platform.python_version(),
}))
"""


class Process:
    """A part that runs."""

    def __init__(
        self, name: str, scratch: Path, small: bool, environment: dict[str, str], spare: float = 0.0
    ) -> None:
        self.name, self.part = name, PARTS[name]
        self.rows_file, self.log_file = scratch / f"{name}.rows", scratch / f"{name}.log"
        self.seconds = SMALL_SECONDS if small else self.part.seconds + int(spare)
        self.deadline = time.time() + self.seconds
        command = [sys.executable, "-m", "gpu.part", self.part.function, self.part.title, str(self.rows_file)]
        command += [str(self.deadline), *(["--small"] if small else [])]
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=scratch,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self) -> bool:
        """Whether it has come to its end, or to that of its time."""
        return self.process.poll() is not None or time.time() > self.deadline

    def stop(self) -> None:
        """Kill it, and whatever it has started; one that a driver holds back is not waited for."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)

    def rows(self) -> list[Row]:
        """Its figures, and what happened to it where it did not end well."""
        in_time = self.process.poll() is not None
        self.stop()
        rows = read_rows(self.rows_file)
        if not in_time:
            told = f"killed after {self.seconds} s"
        elif self.process.returncode:
            lines = self.log_file.read_text(errors="replace").strip().splitlines()
            told = f"exit status {self.process.returncode}: {shortened(lines[-1] if lines else '')}"
        else:
            return rows
        return [
            *rows,
            Row(self.part.title, "the rest" if rows else "all of it", None, note=told, failed=True),
        ]


class Results:
    """The table and the log, written anew after each part."""

    def __init__(self, folder: Path, device: str, heading: str) -> None:
        name = re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_")
        folder.mkdir(parents=True, exist_ok=True)
        self.table, self.log = folder / f"{name}.md", folder / f"{name}.log"
        self.heading = heading
        self.rows: dict[str, list[Row]] = {}
        self.log.write_text("")

    def add(self, process: Process) -> None:
        """Take the figures of a part that has ended."""
        self.rows[process.name] = process.rows()
        with self.log.open("a") as file:
            output = process.log_file.read_text(errors="replace")[-500_000:]
            file.write(f"===== {process.part.title}\n{output}\n")
        self.table.write_text(f"{self.heading}\n{self.text()}")

    def text(self) -> str:
        """The table, its parts in their order."""
        return render([row for name in PARTS for row in self.rows.get(name, [])])

    def failed(self) -> bool:
        return any(row.failed for rows in self.rows.values() for row in rows)


def run(out: Path, wheels: Path | None, small: bool, only: Sequence[str]) -> int:
    """Measure; the exit status is 0 where each part ran to its end, whether goals are met or not."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    out = out.absolute()
    with tempfile.TemporaryDirectory(prefix="abaw-gpu-", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        if wheels is not None:
            install(wheels, scratch / SITE)
        for name in USED:
            copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copyfile
            (scratch / SOURCE).mkdir(exist_ok=True)
            copy(CHECKOUT / name, scratch / SOURCE / name)
        environment = environment_of(scratch, small)
        begin = time.time()
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True
        )
        if probe.returncode:
            raise SystemExit(f"gpu.sh: PyTorch cannot be imported: {probe.stderr.strip().splitlines()[-1]}")
        machine = json.loads(probe.stdout.splitlines()[-1])
        if machine["device"] is None and not small:
            raise SystemExit("gpu.sh: PyTorch sees no CUDA device; --small runs on the CPU")
        device = "small" if small else machine["device"]
        results = Results(out, device, heading(device, machine))
        spare = 0.0
        for stage in SMALL_STAGES if small else STAGES:
            chosen = [name for name in stage if name in only or not only or name == "prepare"]
            if chosen:
                parts = [Process(name, scratch, small, environment, spare) for name in chosen]
                spare = run_stage(parts, results)
        print(results.text(), end="")
        print(
            f"{time.time() - begin:.0f} s; written to {results.table}, what the parts said to {results.log}"
        )
        return int(results.failed())


def run_stage(processes: list[Process], results: Results) -> float:
    """Wait for parts that run side by side; the seconds that they leave, which the next ones have too."""
    running = list(processes)
    try:
        while running:
            for process in [process for process in running if process.ended()]:
                running.remove(process)
                results.add(process)
                print(f"{process.part.title}: done", file=sys.stderr, flush=True)
            time.sleep(0.1)
    finally:
        for process in running:
            process.stop()
    return max(0.0, max(process.deadline for process in processes) - time.time())


def heading(device: str, machine: dict[str, str]) -> str:
    """What the file says above its table."""
    versions = f"torch {machine['torch']}, Python {machine['python']}, {os.cpu_count()} cores"
    lines = [f"# {device}", "", f"`benchmarks/gpu.sh`, {time.strftime('%Y-%m-%d')}: {versions}.", ""]
    if device == "small":
        lines[2:2] = [
            "Tiny sizes on a CPU: this shows that every part runs, and no figure means anything.",
            "",
        ]
    return "\n".join(lines)


def environment_of(scratch: Path, small: bool) -> dict[str, str]:
    """Nothing is downloaded, nothing is written but in the scratch folder."""
    paths = [scratch / SITE, scratch / SOURCE, scratch / SOURCE / "benchmarks"]
    changed = {
        "PYTHONPATH": os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
        "ABAW_DEBUG": "1",  # the log is all that is left of the machine
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)),  # three processes run side by side
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(scratch),
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TRITON_CACHE_DIR": str(scratch / "triton"),
        "MPLCONFIGDIR": str(scratch / "matplotlib"),
    }
    if small:
        changed |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | changed
