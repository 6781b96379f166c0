"""RESULTS.md and its figure, from the scores of all runs."""

import os
import platform
from pathlib import Path
from typing import Any

import torch
from claims import LOST, RULE, Claim, Runs, claims
from matplotlib.figure import Figure

from abaw.files import replacing
from abaw.labels import EXPRESSIONS


def write_results(
    folder: Path,
    parts: dict[str, Any],
    settings: dict[str, float | str],
    seeds: int,
    window: int,
    voting_stride: int,
) -> None:
    """Write RESULTS.md and results.png.

    Args:
        folder: Where to.
        parts: What `ablation.run` returns.
        settings: What was asked of it.
        seeds: How many of each method.
        window: Frames of a window.
        voting_stride: Frames from one voting window to the next.
    """
    runs = Runs(parts, seeds)
    minutes = sum(part["seconds"] for part in parts.values()) / 60
    names = ", ".join(f"{name} {n}" for name, n in zip(EXPRESSIONS, runs.class_counts, strict=True))
    sizes = {name: value for name, value in settings.items() if name != "script"} | {"seeds": seeds}
    asked = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in sizes.items())
    found = claims(runs)
    text = [
        "# Do the claims hold?",
        "",
        f"Written by `python examples/ablation/ablation.py FOLDER {asked}`, in {minutes:.0f} minutes on",
        f"{_machine()} (SHA-256 of the script: {settings['script']}…).",
        "",
        f"Figures are means ± standard deviations over {seeds} seeds of the heads' training,",
        "on whole validation videos of a synthetic corpus. It has drawn faces and synthesised voices that",
        "tell a part of the expression each: this says what the parts of the method do, not how good it is",
        "on people. The full method: DualBranch, dropout of the video with probability 0.1, focal loss",
        f"(gamma 2), windows of {window} frames that start every {voting_stride} and vote. The other methods",
        "change what their name says. Heads learn from features of videos that the encoders were fitted to.",
        "",
        f"Training frames of each class: {names}. Rare: {', '.join(EXPRESSIONS[c] for c in runs.rare)}.",
        "",
        "![A panel for each claim](results.png)",
        "",
        "## Claims",
        "",
        *map(str, found),
        "### The rule of the verdicts",
        "",
        RULE,
        "",
        "## Could this corpus tell?",
        "",
        _tells(runs, found),
        "",
        "## Figures",
        "",
        "Macro-F1:",
        "",
        *_methods_table(runs),
        "",
        "Macro-F1 over the share of the video that is lost, in stretches of a second (1: all of it):",
        "",
        *_loss_table(runs),
        "",
        "F1 of each class, nothing damaged:",
        "",
        *_class_table(runs),
        "",
        f"Label changes a minute, and macro-F1; the annotation changes {runs.truth_changes:.1f} times:",
        "",
        *_voting_table(runs),
    ]
    with replacing(folder / "RESULTS.md") as temporary:
        temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
    with replacing(folder / "results.png") as temporary:
        _draw(runs).savefig(temporary, format="png", dpi=110)


def _tells(runs: Runs, found: list[Claim]) -> str:
    """What lies between chance and the ceiling, and how much of it is more than the seeds' noise."""
    compared = [comparison for claim in found for comparison in claim.comparisons]
    apart = sum(abs(comparison.gain) > comparison.deviation for comparison in compared)
    return (
        f"Macro-F1 of always answering the most frequent class is {runs.majority_f1:.3f}; of the audio-only "
        f"model {runs.f1('audio only')}; of the full method {runs.f1('full method', 'without audio')} "
        f"without sound, {runs.f1('full method', 'without video')} without video, and "
        f"{runs.f1('full method')} with both. {apart} of the {len(compared)} comparisons above "
        "differ by more than the seeds' deviation."
    )


def _methods_table(runs: Runs) -> list[str]:
    conditions = ("clean", "without video", "without audio")
    rows = [
        [
            method,
            *(str(runs.f1(method, name)) if runs.has(method, name) else "" for name in conditions),
            str(runs.rare_f1(method)),
        ]
        for method in runs.methods
    ]
    return _table(["macro-F1", *conditions, "rare classes, clean"], rows)


def _loss_table(runs: Runs) -> list[str]:
    methods = [method for method in runs.methods if runs.has(method, "without video")]
    rows = [[m, *(str(runs.f1(m, condition)) for condition in LOST.values())] for m in methods]
    return _table(["", *map(str, LOST)], rows)


def _class_table(runs: Runs) -> list[str]:
    numbers = range(len(EXPRESSIONS))
    rows = [[m, *(str(runs.class_f1(m, number)) for number in numbers)] for m in runs.methods]
    return _table(["", *EXPRESSIONS], rows)


def _voting_table(runs: Runs) -> list[str]:
    when = ("clean", "without voting")
    rows = [[m, *(str(of(m, name)) for of in (runs.changes, runs.f1) for name in when)] for m in runs.methods]
    return _table(["", "changes, voting", "changes, no voting", "F1, voting", "F1, no voting"], rows)


def _table(headings: list[str], rows: list[list[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _draw(runs: Runs) -> Figure:
    """A panel for each claim."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    (safe, robust), (rare, calm) = figure.subplots(2, 2)

    heads = {
        name: runs.f1(name, "clean" if name == "audio only" else "without video")
        for name in ("full method", "CrossAttention", "Concat", "audio only")
    }
    heads |= {
        name: runs.f1(name, "without video")
        for name in ("dropout 0", "CrossAttention, dropout 0", "Concat, dropout 0")
    }
    safe.barh(list(heads), [s.mean for s in heads.values()], xerr=[s.std for s in heads.values()])
    safe.invert_yaxis()
    safe.set(title="Video removed", xlabel="macro-F1")

    for method, label in {"dropout 0": "0", "full method": "0.1", "dropout 0.3": "0.3"}.items():
        curve = [runs.f1(method, condition) for condition in LOST.values()]
        robust.errorbar(list(LOST), [s.mean for s in curve], [s.std for s in curve], label=f"dropout {label}")
    robust.set(title="Modality dropout", xlabel="share of the video lost", ylabel="macro-F1")
    robust.legend()

    losses = {"cross-entropy": "cross-entropy", "full method": "focal", "logit-adjusted": "logit-adjusted"}
    for place, (method, label) in enumerate(losses.items()):
        bars = [runs.class_f1(method, number) for number in runs.rare]
        where = [x + 0.25 * (place - 1) for x in range(len(bars))]
        rare.bar(where, [s.mean for s in bars], 0.25, yerr=[s.std for s in bars], label=label)
    rare.set_xticks(range(len(runs.rare)), [EXPRESSIONS[c] for c in runs.rare])
    rare.set(title="Rare classes", ylabel="F1")
    rare.legend(loc="lower right")

    votes = {
        label: runs.changes("full method", name)
        for label, name in {"no voting": "without voting", "voting": "clean"}.items()
    }
    calm.bar(list(votes), [s.mean for s in votes.values()], yerr=[s.std for s in votes.values()])
    calm.axhline(runs.truth_changes, linestyle="--", color="black", label="the annotation")
    calm.set(title="Soft voting", ylabel="label changes a minute")
    calm.legend(loc="lower right")
    return figure


def _machine() -> str:
    """The processor, in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} cores computing, torch {torch.__version__}"
