"""`benchmarks/gpu.sh`: a part that fails costs its own figures alone; its small run is whole."""

import importlib
import math
import os
import re
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

CHECKOUT = Path(__file__).parents[1]
BENCHMARKS = CHECKOUT / "benchmarks"
WITHOUT = ("transformers has none for WavLM-large", "told by a CUDA device alone")
FAKE = """
import os, subprocess, sys, time

def good(report, sizes):
    report.row("figure", 3.0, "ms", limit=2.0)

def hang(report, sizes):
    report.row("figure", 1.0)
    child = subprocess.Popen(["sleep", "60"])
    print(os.getpid(), child.pid, flush=True)
    time.sleep(60)

def crash(report, sizes):
    print("out of luck", file=sys.stderr, flush=True)
    os._exit(3)
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(f"gpu.{name}")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_a_part_that_fails_costs_its_own_figures_alone(gpu, tmp_path, monkeypatch):
    run: ModuleType = gpu("run")
    (tmp_path / "fake.py").write_text(FAKE)
    parts = {name: run.Part(name.title(), 3, f"fake:{name}") for name in ("crash", "hang", "good", "missing")}
    monkeypatch.setattr(run, "PARTS", parts)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{BENCHMARKS}"}
    results = run.Results(tmp_path / "out", "Card 9 (tm)", "# heading\n")
    for stage in (("crash", "hang"), ("good", "missing")):
        run.run_stage([run.Process(name, tmp_path, False, environment) for name in stage], results)
        kept = (tmp_path / "out" / "card_9_tm.md").read_text()
    rows = [cells(line) for line in kept.splitlines() if line.startswith("|")]
    assert [row[:3] for row in rows[2:]] == [
        ["Crash", "all of it", "failed"],
        ["Hang", "figure", "1"],
        ["Hang", "the rest", "failed"],
        ["Good", "figure", "3 ms"],
        ["Missing", "all of it", "failed"],
    ]
    notes = [row[7] for row in rows[2:]]
    assert notes[:4] == ["exit status 3: out of luck", "", "killed after 3 s", ""]
    assert "has no attribute 'missing'" in notes[4]
    assert rows[5][3:5] == ["2 ms", "150.0%"]
    assert results.failed()
    hung = (tmp_path / "hang.log").read_text().splitlines()[-1]
    assert [running(int(pid)) for pid in hung.split()] == [False, False]


def test_a_part_has_what_earlier_ones_left(gpu, tmp_path, monkeypatch):
    run: ModuleType = gpu("run")
    (tmp_path / "fake.py").write_text(FAKE)
    parts = {"good": run.Part("Good", 1000, "fake:good"), "next": run.Part("Next", 5, "fake:good")}
    monkeypatch.setattr(run, "PARTS", parts)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{BENCHMARKS}"}
    results = run.Results(tmp_path / "out", "card", "")
    spare = run.run_stage([run.Process("good", tmp_path, False, environment)], results)
    assert 500 < spare < 1000
    last = run.Process("next", tmp_path, False, environment, spare)
    assert last.seconds == 5 + int(spare)
    assert run.run_stage([last], results) > 500


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_limits_stay_below_eight_minutes(gpu):
    run = gpu("run")
    unpacking = 30  # and the first import of PyTorch
    assert unpacking + sum(max(run.PARTS[name].seconds for name in stage) for stage in run.STAGES) < 480
    for stages in (run.STAGES, run.SMALL_STAGES):
        assert sorted(name for stage in stages for name in stage) == sorted(run.PARTS)


@pytest.mark.parametrize(
    ("goal", "value", "limit", "met"),
    [
        (("≥", 0.5, True), 50.0, 100.0, True),
        (("≥", 0.5, True), 49.0, 100.0, False),
        (("≥", 0.5, True), 50.0, None, False),
        (("≤", 1.1, True), 1.2, 1.0, False),
        (("≤", 0.02, False), 0.02, None, True),
        (("≤", 0.02, False), math.nan, None, False),
        (("≥", 0.02, False), math.nan, None, False),
    ],
)
def test_goals(gpu, goal, value, limit, met):
    assert gpu("report").Goal(*goal).met(value, limit) is met


def test_a_figure_that_fails_costs_itself_alone(gpu, tmp_path):
    module = gpu("report")
    goal = module.Goal("≤", 1.1, of_limit=True)
    report = module.Report("part", tmp_path / "rows", deadline=0.0)
    with report.guard("first", goal):
        raise RuntimeError("a | b\nc")
    report.row("second", 1.05, "ms", limit=1.0, limit_is="peer", goal=goal)
    with (tmp_path / "rows").open("a") as file:
        file.write('{"part": "cut o')
    table = [cells(line) for line in module.render(module.read_rows(tmp_path / "rows")).splitlines()]
    assert table[2] == [
        "part",
        "first",
        "failed",
        "",
        "",
        "≤ 110% of it",
        "not measured",
        "RuntimeError: a / b c",
    ]
    assert table[3] == ["part", "second", "1.05 ms", "1 ms (peer)", "105.0%", "≤ 110% of it", "yes", ""]


def test_wheels_are_what_the_machine_lacks(gpu):
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml; Python 3.11 has it")
    wheels = gpu("wheels")
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    asked = [Requirement(text) for text in project["dependencies"]]
    bounds = {canonicalize_name(requirement.name): requirement.specifier for requirement in asked}
    fetched = [Requirement(text) for text in wheels.requirements(CHECKOUT / "pyproject.toml")]
    assert {r.name: r.specifier for r in fetched if r.specifier} == {
        name: bounds[name] for name in wheels.NEEDED if name in bounds
    }
    lacking = set()
    while asked:
        requirement = asked.pop()
        name = canonicalize_name(requirement.name)
        if name in wheels.MACHINE or name in lacking:
            continue
        lacking.add(name)
        for text in metadata.requires(name) or []:
            need = Requirement(text)
            machine = {"python_version": "3.12", "python_full_version": "3.12.3", "sys_platform": "linux"}
            wanted = [*requirement.extras, ""]
            if need.marker is None or any(
                need.marker.evaluate(machine | {"extra": extra}) for extra in wanted
            ):
                asked.append(need)
    assert lacking == set(wheels.NEEDED)


def test_the_table_says_why_a_command_failed(gpu, tmp_path):
    (tmp_path / "other.txt").touch()
    with pytest.raises(RuntimeError, match=r"^abaw synth ended with status 2: abaw: error: .*no synthetic"):
        gpu("command").command("synth", str(tmp_path))


def test_gpu_clock_gives_seconds(gpu, monkeypatch):
    device = gpu("device")

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None: ...

        def synchronize(self) -> None: ...

        def elapsed_time(self, other: "Event") -> float:
            return 250.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    ran: list[int] = []
    assert device.seconds(lambda: ran.append(1), budget=0.0, least=3) == 0.25
    assert len(ran) == 5


def test_waits_are_counted_by_place(gpu, monkeypatch):
    device = gpu("device")
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def step() -> None:
        warnings.warn("Synchronization debug mode is a prototype feature", UserWarning, stacklevel=1)
        for _ in range(2):
            warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=1)

    places = device.waits(step)
    assert modes == ["warn", "default"]
    assert list(places.values()) == [2]
    assert re.fullmatch(r".*test_gpu_script\.py:\d+", next(iter(places)))


def test_idle_is_what_no_kernel_fills(gpu, monkeypatch):
    device = gpu("device")

    class Event:
        def __init__(
            self, name: str, begin: int, length: int, kind=DeviceType.CUDA, annotation=False
        ) -> None:
            said = {"name": name, "start_ns": begin, "duration_ns": length, "device_type": kind}
            for entry, value in (said | {"is_user_annotation": annotation}).items():
                setattr(self, entry, lambda value=value: value)

    # As a GPU's profile has them: C++ names its lambdas with a "#", and so does PyTorch its ranges.
    copy = "void at::native::elementwise_kernel<at::native::direct_copy_kernel_cuda()::{lambda()#3}>"
    events = [
        Event("gemm", 0, 300_000_000),
        Event(copy, 200_000_000, 300_000_000),
        Event("Optimizer.step#AdamW.step", 0, 1_000_000_000, annotation=True),
        Event("cudaLaunchKernel", 0, 1_000_000_000, kind=DeviceType.CPU),
    ]

    class Profile:
        def __init__(self, activities: list[ProfilerActivity]) -> None:
            assert activities == [ProfilerActivity.CUDA]
            self.profiler = self.kineto_results = self

        def __enter__(self) -> None: ...

        def __exit__(self, *exception: object) -> None: ...

        def events(self) -> list[Event]:
            return events

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "profile", Profile)
    monkeypatch.setattr(device, "clock", iter([10.0, 11.0]).__next__)
    with device.Watch() as watch:
        pass
    assert watch.idle() == pytest.approx(0.5)
    assert [line.split(" ms  ")[1] for line in watch.kernels().splitlines()] == ["gemm", copy]


@pytest.mark.slow
def test_small_run_measures_everything(gpu, tmp_path):
    done = subprocess.run(
        [BENCHMARKS / "gpu.sh", "--small", "--out", tmp_path],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "small.md").read_text()
    printed = done.stdout[: done.stdout.rindex("\n", 0, -1) + 1]
    assert table.endswith(printed)
    rows = [cells(line) for line in table.splitlines() if line.startswith("|")]
    header, rows = rows[0], rows[2:]
    assert header == ["part", "figure", "value", "limit", "share", "goal", "met", "note"]
    figures: dict[str, list[str]] = {}
    for part, figure, value, limit, share, goal, met, note in rows:
        figures.setdefault(part, []).append(figure)
        assert value != "—" or note in WITHOUT
        assert (met in ("yes", "no")) == bool(goal)
        if value != "—":
            assert math.isfinite(amount(value))
            assert amount(value) >= 0 or "beyond the features" in figure
        if share:
            assert float(share[:-1]) == pytest.approx(100 * amount(value) / amount(limit), rel=0.02, abs=0.06)
    assert figures["tests marked gpu"] == ["tests that are found and skipped"]
    assert figures["BEiT-large, bf16"] == [
        f"{way}, micro-batch {size}" for way in ("sdpa", "eager", "compiled") for size in (4, 8)
    ]
    assert figures["WavLM-large, bf16"] == ["sdpa"] + [
        f"{way}, micro-batch {size}" for way in ("eager", "compiled") for size in (1, 2)
    ]
    assert len(figures["safe cross-attention, bf16"]) == 2 * 3
    assert len(figures["ceilings of the card"]) == 2
    assert len(figures["whole videos"]) == 2 * 3 + 4
    assert len(figures["20 training steps, bf16-mixed"]) == 2 * 3
    met = {figure: met for _, figure, _, _, _, _, met, _ in rows}
    assert [figure for figure, said in met.items() if said == "no" and "macro-F1" in figure] == []
    assert met["tests that are found and skipped"] == "yes"
    assert met["frames with the same expression"] == "yes"
    # BEiT: 4 patches and a class token; projections, both products of attention, and the MLP, in 2 layers.
    tokens, dim, mlp = 5, 32, 64
    layer = 4 * tokens * dim**2 + 2 * tokens**2 * dim + 2 * tokens * dim * mlp
    counted = re.search(r"BEiT-large: (\d+) operations a frame", (tmp_path / "small.log").read_text())
    assert counted is not None
    assert int(counted[1]) == 2 * (2 * layer + 4 * 3 * 16 * 16 * dim)
    assert not (BENCHMARKS / "results" / "small.md").exists()


def amount(cell: str) -> float:
    """The number that a cell begins with."""
    return float(cell.split()[0].replace(",", ""))
