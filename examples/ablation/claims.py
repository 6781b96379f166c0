"""From the scores of all runs to a verdict on each claim, by one rule."""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from abaw.labels import EXPRESSIONS
from abaw.robustness import RATES

LOST: Final = {0.0: "clean", **{rate: f"video lost {rate}" for rate in RATES}, 1.0: "without video"}
"""The condition of each share of lost video."""
NUM_RARE: Final = 4
_FIRST: Final = ", seed 0"

RULE: Final = """\
Each comparison is of two means over the seeds. A difference larger than the seeds' pooled standard deviation
(the root of the mean of both variances) in the claimed direction: *held*; as large the other way: *not
held*; in between: *not shown*. "No worse" is held unless the difference is larger than that deviation the
wrong way. A claim holds if all comparisons that count for it hold; it does not if one does not; else it is
not shown. One seed shows nothing. The deviation is that of training alone: all runs share a corpus and its
encoders, so other videos may say otherwise, and with few seeds one deviation is a low bar."""


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
        said = parts["full method" + _FIRST]["said"]
        self.methods = [name.removesuffix(_FIRST) for name in parts if name.endswith(_FIRST)]
        self.class_counts: list[int] = said["class_counts"]
        self.truth_changes: float = said["truth_changes"]
        order = sorted(range(len(EXPRESSIONS)), key=self.class_counts.__getitem__)
        self.rare = sorted(order[:NUM_RARE])

    def has(self, method: str, condition: str) -> bool:
        """Whether a method was scored under a condition."""
        return condition in self._parts[method + _FIRST]["said"]["scores"]

    def score(self, method: str, condition: str, of: Callable[[dict[str, Any]], float]) -> Score:
        """A figure of what a method scored under a condition."""
        runs = (self._parts[f"{method}, seed {seed}"]["said"]["scores"] for seed in range(self._seeds))
        return Score(tuple(of(scores[condition]) for scores in runs))

    def f1(self, method: str, condition: str = "clean") -> Score:
        """Macro-F1."""
        return self.score(method, condition, lambda s: s["f1"])

    def mean_f1(self, method: str, conditions: Iterable[str]) -> Score:
        """Macro-F1, the mean over conditions."""
        columns = zip(*(self.f1(method, condition).values for condition in conditions), strict=True)
        return Score(tuple(map(statistics.fmean, columns)))

    def class_f1(self, method: str, number: int) -> Score:
        """The F1 of a class, nothing damaged."""
        return self.score(method, "clean", lambda s: s["f1_per_class"][number])

    def rare_f1(self, method: str) -> Score:
        """The mean F1 of the rare classes, nothing damaged."""
        columns = zip(*(self.class_f1(method, number).values for number in self.rare), strict=True)
        return Score(tuple(map(statistics.fmean, columns)))

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
            Comparison(f"{label}, better than Concat", dual, rivals["Concat"], counts=False),
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
        robust.append(
            Comparison(
                f"Dropout {rate} against none, video removed",
                runs.f1(method, "without video"),
                runs.f1("dropout 0", "without video"),
                counts=False,
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
