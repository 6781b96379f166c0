"""From the scores of all runs to RESULTS.md: tables, a figure, and a verdict on each claim by one rule."""

import math
import os
import platform
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from matplotlib.figure import Figure

from abaw.files import replacing
from abaw.labels import EXPRESSIONS
from abaw.robustness import RATES

LOST: Final = {0.0: "clean", **{rate: f"video lost {rate}" for rate in RATES}, 1.0: "without video"}
"""The condition of each share of lost video."""
NUM_RARE: Final = 4

RULE: Final = (
    "**How verdicts come about.** Each comparison is of two means over the seeds. A difference larger than the "
    "pooled standard deviation of the seeds (the root of the mean of both variances) in the claimed direction: "
    "*held*; as large the other way: *not held*; in between: *not shown*. *No worse* is held unless the "
    "difference is larger than that deviation the wrong way. A claim holds if all comparisons that count for it "
    "hold; it does not if any does not; else it is not shown. One seed shows nothing. The deviation is of "
    "training alone: all runs share one corpus and its encoders, so other videos may say otherwise, and with so "
    "few seeds one deviation is a low bar."
)


@dataclass(frozen=True)
class Score:
    """One figure, of each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float:
        """Of the sample; NaN of one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        digits = 3 if self.mean < 2 else 1
        return f"{self.mean:.{digits}f} ± {self.std:.{digits}f}"


@dataclass(frozen=True)
class Comparison:
    """One score is claimed to be larger than another, or no smaller."""

    says: str
    one: Score
    other: Score
    no_worse: bool = False
    counts: bool = True

    @property
    def verdict(self) -> str:
        """Held, not held, or not shown, by `RULE`."""
        gain = self.one.mean - self.other.mean
        spread = math.hypot(self.one.std, self.other.std) / math.sqrt(2)
        if math.isnan(spread):
            return "not shown"
        if gain < -spread:
            return "not held"
        return "held" if self.no_worse or gain > spread else "not shown"

    def __str__(self) -> str:
        aside = "" if self.counts else " (does not count for the claim)"
        gain = Score((self.one.mean - self.other.mean,)).mean
        digits = 3 if self.one.mean < 2 else 1
        return f"- {self.says}: {self.one} against {self.other}, {gain:+.{digits}f}: {self.verdict}{aside}."


@dataclass(frozen=True)
class Claim:
    """What is claimed, and what has to hold for it."""

    says: str
    comparisons: list[Comparison]

    @property
    def verdict(self) -> str:
        """Of the comparisons that count."""
        verdicts = {comparison.verdict for comparison in self.comparisons if comparison.counts}
        return next((word for word in ("not held", "not shown") if word in verdicts), "held")

    def __str__(self) -> str:
        return "\n".join([f"### {self.says}: {self.verdict}", "", *map(str, self.comparisons), ""])


class Runs:
    """The scores of all methods and seeds.

    Args:
        parts: What `ablation.run` returns.
        seeds: How many of each method.
    """

    def __init__(self, parts: dict[str, Any], seeds: int) -> None:
        self._parts = parts
        self._seeds = seeds
        said = parts["full method/0"]["said"]
        self.methods = list(dict.fromkeys(name.split("/")[0] for name in parts if "/" in name))
        self.class_counts: list[int] = said["class_counts"]
        self.truth_changes: float = said["truth_changes"]
        order = sorted(range(len(EXPRESSIONS)), key=self.class_counts.__getitem__)
        self.rare = sorted(order[:NUM_RARE])

    def has(self, method: str, condition: str) -> bool:
        """Whether a method was scored under a condition."""
        return condition in self._parts[f"{method}/0"]["said"]["scores"]

    def score(self, method: str, condition: str, of: Callable[[dict[str, Any]], float]) -> Score:
        """A figure of what a method scored under a condition."""
        runs = (self._parts[f"{method}/{seed}"]["said"]["scores"] for seed in range(self._seeds))
        return Score(tuple(of(scores[condition]) for scores in runs))

    def f1(self, method: str, condition: str = "clean") -> Score:
        """Macro-F1."""
        return self.score(method, condition, lambda s: s["f1"])

    def mean_f1(self, method: str, conditions: Iterable[str]) -> Score:
        """Macro-F1, the mean over conditions."""
        columns = zip(*(self.f1(method, condition).values for condition in conditions), strict=True)
        return Score(tuple(map(statistics.fmean, columns)))

    def rare_f1(self, method: str) -> Score:
        """The mean F1 of the rare classes."""
        return self.score(
            method, "clean", lambda s: statistics.fmean(s["f1_per_class"][c] for c in self.rare)
        )

    def changes(self, method: str, condition: str) -> Score:
        """Changes of label a minute."""
        return self.score(method, condition, lambda s: s["changes"])


def claims(runs: Runs) -> list[Claim]:
    """The claims of the method, each with its comparisons."""
    safe: list[Comparison] = []
    alone = runs.f1("audio only")
    for kind, suffix in {"full method": "", "dropout 0": ", dropout 0"}.items():
        dual = runs.f1(kind, "without video")
        label = f"DualBranch{suffix or ', dropout 0.1'}, video removed"
        rivals = {head: runs.f1(head + suffix, "without video") for head in ("CrossAttention", "Concat")}
        safe += [
            Comparison(f"{label}, no worse than the audio-only model", dual, alone, no_worse=True),
            Comparison(
                f"{label}, better than CrossAttention with zeros trained alike",
                dual,
                rivals["CrossAttention"],
            ),
            Comparison(f"{label}, better than Concat trained alike", dual, rivals["Concat"], counts=False),
        ]
    robust: list[Comparison] = []
    for method, rate in {"full method": 0.1, "dropout 0.3": 0.3}.items():
        up_to = [name for lost, name in LOST.items() if 0 < lost <= rate]
        beyond = [name for lost, name in LOST.items() if lost > rate]
        for where, names in {"up to": up_to, "beyond": beyond}.items():
            robust.append(
                Comparison(
                    f"Dropout {rate} against none, mean F1 over losses {where} {rate}",
                    runs.mean_f1(method, names),
                    runs.mean_f1("dropout 0", names),
                    counts=where == "up to",
                )
            )
    full, plain, adjusted = (
        runs.rare_f1(name) for name in ("full method", "cross-entropy", "logit-adjusted")
    )
    rare = [
        Comparison("Focal against cross-entropy, mean F1 of the rare classes", full, plain),
        Comparison("Logit-adjusted against cross-entropy, the same", adjusted, plain, counts=False),
    ]
    before, after = "without voting", "clean"
    calm = [
        Comparison(
            "Label changes a minute without voting against with",
            runs.changes("full method", before),
            runs.changes("full method", after),
        ),
        Comparison(
            "Macro-F1 with voting, no worse than without",
            runs.f1("full method", after),
            runs.f1("full method", before),
            no_worse=True,
        ),
    ]
    return [
        Claim("Safe fusion degrades to audio-only instead of breaking", safe),
        Claim("Modality dropout buys robustness up to its training rate", robust),
        Claim("Focal loss helps rare classes", rare),
        Claim("Soft voting cuts jitter", calm),
    ]


def write_results(
    folder: Path, parts: dict[str, Any], settings: dict[str, int], window: int, voting_stride: int
) -> None:
    """Write RESULTS.md and results.png.

    Args:
        folder: Where to.
        parts: What `ablation.run` returns.
        settings: What was asked of it.
        window: Frames of a window.
        voting_stride: Frames from one voting window to the next.
    """
    runs = Runs(parts, settings["seeds"])
    minutes = sum(part["seconds"] for part in parts.values()) / 60
    names = ", ".join(f"{name} {n}" for name, n in zip(EXPRESSIONS, runs.class_counts, strict=True))
    asked = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    text = [
        "# Do the claims hold?",
        "",
        f"Written by `python examples/ablation/ablation.py FOLDER {asked}` in {minutes:.0f} minutes on {_machine()}. "
        f"Figures are means ± standard deviations over {settings['seeds']} seeds of the head's training, on whole "
        "validation videos of the synthetic corpus: drawn faces and synthesised voices, so this says what the "
        "method does where face and voice each tell a part, not how good it is on people. The full method: "
        f"DualBranch, dropout of the video 0.1, focal loss (gamma 2), windows of {window} frames voting every "
        f"{voting_stride}. Each other row of the first table changes what its name says.",
        "",
        f"Training frames of each class: {names}. The rare ones: "
        f"{', '.join(EXPRESSIONS[c] for c in runs.rare)}.",
        "",
        RULE,
        "",
        "![The four claims](results.png)",
        "",
        "## Claims",
        "",
        *map(str, claims(runs)),
        "## Figures",
        "",
        *_methods_table(runs),
        "",
        "Macro-F1 over the share of the video that is lost, in stretches of a second (1: all of it):",
        "",
        *_table(
            ["", *map(str, LOST)],
            [
                [method, *(str(runs.f1(method, condition)) for condition in LOST.values())]
                for method in runs.methods
                if runs.has(method, "without video")
            ],
        ),
        "",
        "F1 of each class, nothing damaged:",
        "",
        *_table(
            ["", *EXPRESSIONS],
            [
                [
                    method,
                    *(
                        str(runs.score(method, "clean", lambda s, c=c: s["f1_per_class"][c]))
                        for c in range(len(EXPRESSIONS))
                    ),
                ]
                for method in ("full method", "cross-entropy", "logit-adjusted")
            ],
        ),
        "",
        f"Label changes a minute; the annotation itself changes {runs.truth_changes:.1f} times:",
        "",
        *_table(
            ["", "voting", "no voting", "macro-F1 voting", "macro-F1 no voting"],
            [
                [
                    method,
                    *(str(runs.changes(method, condition)) for condition in ("clean", "without voting")),
                    *(str(runs.f1(method, condition)) for condition in ("clean", "without voting")),
                ]
                for method in runs.methods
            ],
        ),
    ]
    with replacing(folder / "RESULTS.md") as temporary:
        temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
    with replacing(folder / "results.png") as temporary:
        _draw(runs).savefig(temporary, format="png", dpi=110)


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
        bars = [runs.score(method, "clean", lambda s, c=c: s["f1_per_class"][c]) for c in runs.rare]
        where = [x + 0.25 * (place - 1) for x in range(len(bars))]
        rare.bar(where, [s.mean for s in bars], 0.25, yerr=[s.std for s in bars], label=label)
    rare.set_xticks(range(len(runs.rare)), [EXPRESSIONS[c] for c in runs.rare])
    rare.set(title="Rare classes", ylabel="F1")
    rare.legend()

    votes = {
        label: runs.changes("full method", name)
        for label, name in {"no voting": "without voting", "voting": "clean"}.items()
    }
    calm.bar(list(votes), [s.mean for s in votes.values()], yerr=[s.std for s in votes.values()])
    calm.axhline(runs.truth_changes, linestyle="--", color="black", label="the annotation")
    calm.set(title="Soft voting", ylabel="label changes a minute")
    calm.legend()
    return figure


def _machine() -> str:
    """The processor, in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
    return (
        f"{name} ({torch.get_num_threads()} of {os.cpu_count()} cores computing, torch {torch.__version__})"
    )
