"""From the scores of all runs to a verdict on each claim, by one rule."""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from abaw.labels import EXPRESSIONS
from abaw.robustness import RATES

LOST: Final = {0.0: "clean", **{rate: f"video lost {rate}" for rate in RATES}, 1.0: "without video"}
"""The condition of each share of lost video."""
NUM_RARE: Final = 4
_FIRST: Final = ", seed 0"

MARGIN: Final = 0.02
"""Macro-F1: a loss of less is no loss, a score so near to chance or to 1 says nothing."""

RULE: Final = f"""\
Each comparison is of two means over the seeds; the deviation is the seeds' pooled standard deviation (the
root of the mean of both variances). "Better": a difference larger than the deviation in the claimed direction
is *held*; as large the other way, *not held*; in between, *not shown*. "No worse": *held* if the difference
less the deviation is no loss of more than {MARGIN} macro-F1; *not held* if the difference plus the deviation
still is one; in between, *not shown*: a wide spread makes neither easier. Two scores that both lie within
{MARGIN} of always answering the most frequent class, or of 1, show nothing, and one seed shows nothing. A
claim holds if all comparisons that count for it hold; it does not if one does not; else it is not shown. The
deviation is that of training alone: all runs share a corpus and its encoders, so other videos may say
otherwise, and with few seeds one deviation is a low bar."""


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
    """One score is claimed to be larger than another, or no smaller; both are better the larger they are."""

    says: str
    one: Score
    other: Score
    no_worse: bool = False
    counts: bool = True
    telling: tuple[float, float] = (-math.inf, math.inf)
    """Two scores that are both below the first, or both above the second, are not told apart."""

    @property
    def gain(self) -> float:
        """Of the means."""
        return self.one.mean - self.other.mean

    @property
    def deviation(self) -> float:
        """Pooled over both; NaN of one seed."""
        return math.hypot(self.one.std, self.other.std) / math.sqrt(2)

    @property
    def verdict(self) -> str:
        """Held, not held, or not shown, by `RULE`."""
        low, high = self.telling
        means = (self.one.mean, self.other.mean)
        if math.isnan(self.deviation) or max(means) <= low or min(means) >= high:
            return "not shown"
        allowed = MARGIN if self.no_worse else 0.0
        if self.no_worse and self.gain - self.deviation >= -allowed:
            return "held"
        if self.gain + self.deviation < -allowed:
            return "not held"
        return "held" if not self.no_worse and self.gain > self.deviation else "not shown"

    def __str__(self) -> str:
        aside = "" if self.counts else " (does not count for the claim)"
        digits = 3 if self.one.mean < 2 else 1
        gain = f"{self.gain:+.{digits}f}"
        return f"- {self.says}: {self.one} against {self.other}, {gain}: {self.verdict}{aside}."


@dataclass(frozen=True)
class Claim:
    """What is claimed, how it is tried, and what has to hold for it."""

    says: str
    tried: str
    comparisons: list[Comparison]

    @property
    def verdict(self) -> str:
        """Of the comparisons that count."""
        verdicts = {comparison.verdict for comparison in self.comparisons if comparison.counts}
        return next((word for word in ("not held", "not shown") if word in verdicts), "held")

    def __str__(self) -> str:
        return "\n".join(
            [f"### {self.says}: {self.verdict}", "", self.tried, "", *map(str, self.comparisons), ""]
        )


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
        self.majority_f1: float = said["majority_f1"]
        self.telling = (self.majority_f1 + MARGIN, 1 - MARGIN)
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


SAFE: Final = """\
The video is taken away from trained models. They are held against a model that never had any, and against
cross-attention that is given zeros instead. Each head is trained with modality dropout and without it, since
dropout alone teaches any head what missing means."""
ROBUST: Final = """\
Dropout takes the whole video from a window in training, with probability 0.1, 0.3 or never. In validation
videos, faces are lost in stretches of a second, up to that share of the frames and beyond: the same rate, of
another kind of loss."""
RARE: Final = "The mean F1 of the four rarest classes, nothing damaged."
CALM: Final = """\
One model's windows, overlapping and voting, against windows side by side, of which each frame is in one."""


def claims(runs: Runs) -> list[Claim]:
    """The claims of the method, each with its comparisons."""
    compare = partial(Comparison, telling=runs.telling)
    safe: list[Comparison] = []
    alone = runs.f1("audio only")
    for kind, suffix in {"full method": "", "dropout 0": ", dropout 0"}.items():
        dual = runs.f1(kind, "without video")
        label = f"DualBranch{suffix or ', dropout 0.1'}, video removed"
        rivals = {head: runs.f1(head + suffix, "without video") for head in ("CrossAttention", "Concat")}
        safe += [
            compare(f"{label}, no worse than the audio-only model", dual, alone, no_worse=True),
            compare(
                f"{label}, better than CrossAttention with zeros trained alike",
                dual,
                rivals["CrossAttention"],
            ),
            compare(f"{label}, better than Concat", dual, rivals["Concat"], counts=False),
        ]
    robust: list[Comparison] = []
    for method, rate in {"full method": 0.1, "dropout 0.3": 0.3}.items():
        up_to = [name for lost, name in LOST.items() if 0 < lost <= rate]
        beyond = [name for lost, name in LOST.items() if lost > rate]
        for where, names in {"up to": up_to, "beyond": beyond}.items():
            robust.append(
                compare(
                    f"Dropout {rate} against none, mean F1 over losses {where} {rate}",
                    runs.mean_f1(method, names),
                    runs.mean_f1("dropout 0", names),
                    counts=where == "up to",
                )
            )
        robust.append(
            compare(
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
        compare("Focal against cross-entropy, mean F1 of the rare classes", full, plain),
        compare("Logit-adjusted against cross-entropy, the same", adjusted, plain, counts=False),
    ]
    before, after = "without voting", "clean"
    calm = [
        Comparison(
            "Label changes a minute without voting against with",
            runs.changes("full method", before),
            runs.changes("full method", after),
        ),
        compare(
            "Macro-F1 with voting, no worse than without",
            runs.f1("full method", after),
            runs.f1("full method", before),
            no_worse=True,
        ),
    ]
    return [
        Claim("Safe fusion degrades to audio-only instead of breaking", SAFE, safe),
        Claim("Modality dropout buys robustness up to its training rate", ROBUST, robust),
        Claim("Focal loss helps rare classes", RARE, rare),
        Claim("Soft voting cuts jitter", CALM, calm),
    ]
