"""The ablation on a tiny corpus: from nothing to RESULTS.md, resumed, and the rule of its verdicts."""

import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from small import EXAMPLES
from torch import Tensor

from abaw.engine import VideoFeatures

NAMES = ("claims", "results", "ablation")


@pytest.fixture(scope="module")
def ablation() -> Iterator[ModuleType]:
    """The script, imported from its folder, as when it is run; forgotten afterwards."""
    folder = str(EXAMPLES / "ablation")
    sys.path.insert(0, folder)
    yield importlib.import_module("ablation")
    sys.path.remove(folder)
    for name in NAMES:
        del sys.modules[name]


def video(labels: list[int], seconds: float) -> VideoFeatures:
    """A video of which nothing is known but its clock and its labels."""
    num = len(labels)
    nothing, present = torch.zeros(num, 1), torch.ones(num, dtype=torch.bool)
    time = torch.linspace(3.0, 3.0 + seconds, num, dtype=torch.float64)
    return VideoFeatures("a", nothing, nothing, present, present, time, torch.tensor(labels), lead=0.0)


@pytest.mark.slow
def test_runs_resumes_and_reports(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, results = tmp_path / "run", tmp_path / "results"
    sizes = ["--videos=8", "--frames=60", "--encoder-epochs=1", "--head-epochs=1", "--seeds=1"]
    arguments = [str(folder), *sizes, f"--results={results}"]
    ablation.main(arguments)
    assert "--weakest 0.2" in (folder / "corpus" / "SYNTHETIC.txt").read_text()
    text = (results / "RESULTS.md").read_text()
    assert (results / "results.png").stat().st_size > 10_000
    assert text.count("\n### ") == 5  # four claims and the rule
    for method in ablation.METHODS:
        part = folder / f"{method}, seed 0.json"
        scores = json.loads(part.read_text())["said"]["scores"]
        assert all(math.isfinite(score["f1"]) for score in scores.values())
        assert ("without video" in scores) == (method != "audio only")

    # Killed before the last part was finished: that alone is done again, and says the same.
    lost = folder / "cross-entropy, seed 0.json"
    said = json.loads(lost.read_text())["said"]
    lost.unlink()
    for stage in ("make_corpus", "train_encoder", "extract"):
        monkeypatch.setattr(ablation, stage, pytest.fail)
    scored: list[Any] = []
    score = ablation.score
    monkeypatch.setattr(ablation, "score", lambda *args: scored.append(args[1]) or score(*args))
    ablation.main(arguments)
    assert scored == [ablation.METHODS["cross-entropy"]]
    assert json.loads(lost.read_text())["said"] == said

    with pytest.raises(SystemExit) as stopped:
        ablation.main([*arguments, "--head-epochs=2"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("one", "other", "no_worse", "verdict"),
    [
        # Both have a variance of 0.01, so the pooled deviation is 0.1.
        ([0.5, 0.6, 0.7], [0.39, 0.49, 0.59], False, "held"),
        ([0.5, 0.6, 0.7], [0.41, 0.51, 0.61], False, "not shown"),
        ([0.5, 0.6, 0.7], [0.59, 0.69, 0.79], False, "not shown"),
        ([0.5, 0.6, 0.7], [0.61, 0.71, 0.81], False, "not held"),
        # No worse: by a margin of 0.02, and a wide spread makes nothing easier.
        ([0.5, 0.6, 0.7], [0.59, 0.69, 0.79], True, "not shown"),
        ([0.1, 0.5, 0.9], [0.75, 0.75, 0.75], True, "not shown"),
        ([0.5, 0.6, 0.7], [0.63, 0.73, 0.83], True, "not held"),
        ([0.5, 0.6, 0.7], [0.61, 0.71, 0.81], True, "not shown"),
        ([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], True, "held"),
        ([0.59, 0.6, 0.61], [0.6, 0.6, 0.61], True, "held"),
        ([0.9], [0.1], False, "not shown"),
        ([0.9], [0.1], True, "not shown"),
        ([0.6, 0.6, 0.6], [0.5, 0.5 + 0.17, 0.5 - 0.17], False, "not shown"),  # variances 0 and 0.0289
        ([0.6, 0.6, 0.6], [0.5, 0.5 + 0.12, 0.5 - 0.12], False, "held"),  # variances 0 and 0.0144
    ],
)
def test_verdict_compares_the_gain_with_the_seeds_deviation(
    ablation: ModuleType, one: list[float], other: list[float], no_worse: bool, verdict: str
) -> None:
    claims = sys.modules["claims"]
    scores = (claims.Score(tuple(values)) for values in (one, other))
    assert claims.Comparison("a", *scores, no_worse=no_worse).verdict == verdict


@pytest.mark.parametrize(
    ("one", "other", "verdict"), [(0.06, 0.05, "not shown"), (0.995, 0.985, "not shown"), (0.99, 0.9, "held")]
)
def test_scores_at_chance_or_near_1_show_nothing(
    ablation: ModuleType, one: float, other: float, verdict: str
) -> None:
    claims = sys.modules["claims"]
    scores = (claims.Score((value, value, value + 1e-6)) for value in (one, other))
    assert claims.Comparison("a", *scores, telling=(0.07, 0.98)).verdict == verdict


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([1, 1], "held"),
        ([1, 0], "not shown"),
        ([1, -1], "not held"),
        ([0, -1], "not held"),
    ],
)
def test_claim_needs_all_that_counts(ablation: ModuleType, gains: list[int], verdict: str) -> None:
    claims = sys.modules["claims"]
    base = claims.Score((0.4, 0.5))

    def compare(gain: int, counts: bool = True) -> Any:
        return claims.Comparison("a", claims.Score((0.4 + gain, 0.5 + gain)), base, counts=counts)

    comparisons = [*map(compare, gains), compare(-1, counts=False), compare(0, counts=False)]
    assert claims.Claim("b", "tried", comparisons).verdict == verdict


def test_claims_are_of_the_right_methods(ablation: ModuleType) -> None:
    claims = sys.modules["claims"]
    names = ["clean", "without video", "without voting", *(f"video lost {r}" for r in ablation.RATES)]
    # A world in which dropout helps up to its rate and no further, and nothing else makes a difference.
    parts: dict[str, Any] = {}
    for method, known in ablation.METHODS.items():
        for seed in range(2):
            scores = {
                name: {"f1": 0.5 + seed / 100, "f1_per_class": [0.5 + seed / 100] * 8, "changes": 60 + seed}
                for name in names
            }
            for rate in ablation.RATES:
                if rate <= known.dropout:
                    scores[f"video lost {rate}"]["f1"] += 0.1
            said = {
                "class_counts": [80, 1, 70, 2, 60, 50, 3, 4],
                "majority_f1": 0.05,
                "truth_changes": 30.0,
                "scores": scores,
            }
            parts[f"{method}, seed {seed}"] = {"said": said, "seconds": 1.0}
    runs = claims.Runs(parts, seeds=2)
    assert runs.methods == list(ablation.METHODS)
    assert runs.rare == [1, 3, 6, 7]
    safe, robust, rare, calm = claims.claims(runs)
    assert robust.verdict == "held"
    assert [c.verdict for c in robust.comparisons if not c.counts] == ["not shown"] * 4
    assert {claim.verdict for claim in (safe, rare, calm)} == {"not shown"}

    for seed in range(2):
        said = {name: parts[f"{name}, seed {seed}"]["said"]["scores"] for name in ablation.METHODS}
        said["full method"]["clean"]["changes"] -= 30
        for number in (1, 3, 6, 7):
            said["full method"]["clean"]["f1_per_class"][number] += 0.1
        for name in ("CrossAttention", "CrossAttention, dropout 0"):
            said[name]["without video"]["f1"] -= 0.2
    safe, _, rare, calm = claims.claims(runs)
    assert [claim.verdict for claim in (safe, rare, calm)] == ["held"] * 3
    for seed in range(2):
        parts[f"audio only, seed {seed}"]["said"]["scores"]["clean"]["f1"] += 0.2
    assert claims.claims(runs)[0].verdict == "not held"


def test_changes_are_counted_by_the_clock(ablation: ModuleType) -> None:
    labels: list[Tensor] = [torch.tensor([1, 1, 2, 2, 1]), torch.tensor([3, 3, 3])]
    videos = [video([0] * 5, seconds=20), video([0] * 3, seconds=10)]
    assert ablation.changes_a_minute(labels, videos) == pytest.approx(4)  # 2 in half a minute
    # The second is not annotated throughout: nobody knows when its label changes.
    assert ablation.truth_changes([video([1, 1, 2, 2, 1], 20), video([3, -1, 4], 10)]) == pytest.approx(6)


def test_the_majority_is_that_of_the_training_labels(ablation: ModuleType) -> None:
    # Of 8 frames with 5 annotated as the majority: an F1 of 2 * 5 / (5 + 8), and seven classes of 0.
    counts = [9, 1, 1, 1, 1, 1, 1, 1]
    videos = [video([0, 0, 0, 1, -1], 1), video([0, 2, 0, 3], 1)]
    assert ablation.majority_f1(videos, counts) == pytest.approx(2 * 5 / (5 + 8) / 8)
