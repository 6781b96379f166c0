"""From windows to whole videos: our numbers beside the peers', ratios in one run.

    pip install 'abaw[bench]'
    python benchmarks/inference.py votes
    python benchmarks/inference.py overlap
    python benchmarks/inference.py memory

``votes``: the scores of 36,000 overlapping windows become one a frame, by pyannote.audio's
``Inference.aggregate``, by MONAI's ``sliding_window_inference`` and by ``SoftVoting``. Both rivals are handed
probabilities, each in its own layout; ``SoftVoting`` is handed logits and does the softmax as well. Seconds
are medians of interleaved runs. Memory is what a fresh process needs beyond its imports when the windows are
made batch by batch, as by a network: pyannote's function takes them all at once.

``overlap``: a whole video whose frames pass a BEiT once, against each window passing it on its own, at an
overlap of 50, 75 and 90 %. The ideal is the windows' frames over the video's (window / stride
in a long one); the scores are the same.

``memory``: peak memory of a process that predicts one minute, and of one that predicts sixty.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import whole_video
from machine import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor

from abaw.postprocess import SoftVoting, Weighting, window_starts

Make = Callable[[int, int], Tensor]
"""Windows from one number to another, in the layout that the rival takes."""


@dataclass(frozen=True)
class Votes:
    """What is voted on: so many windows of one video."""

    windows: int
    window: int
    stride: int
    classes: int
    batch: int
    weighting: Weighting

    @property
    def frames(self) -> int:
        return (self.windows - 1) * self.stride + self.window

    def logits(self, first: int, last: int) -> Tensor:
        generator = torch.Generator().manual_seed(first)
        return torch.randn(last - first, self.window, self.classes, generator=generator)


def soft_voting(votes: Votes, make: Make) -> Tensor:
    starts = window_starts(votes.frames, votes.window, votes.stride)
    voting = SoftVoting(votes.frames, votes.classes, votes.window, votes.weighting)
    for first in range(0, votes.windows, votes.batch):
        last = min(first + votes.batch, votes.windows)
        voting.add(make(first, last), starts[first:last])
    return voting.finish()[0]


def monai(votes: Votes, make: Make) -> Tensor:
    from monai.inferers import sliding_window_inference

    made = 0

    def network(windows: Tensor) -> Tensor:
        nonlocal made
        made += len(windows)
        return make(made - len(windows), made).clone()  # it multiplies in place what a network returns

    weights = np.hamming(votes.window) if votes.weighting == "hamming" else np.ones(votes.window)
    scores = sliding_window_inference(
        torch.zeros(1, 1, votes.frames),
        roi_size=votes.window,
        sw_batch_size=votes.batch,
        predictor=network,
        overlap=1 - (votes.stride + 0.5) / votes.window if votes.stride < votes.window else 0,
        roi_weight_map=torch.tensor(weights, dtype=torch.float32),
    )
    assert isinstance(scores, Tensor)
    assert made == votes.windows
    return scores[0].T


def pyannote(votes: Votes, make: Make) -> Tensor:
    from pyannote.audio import Inference
    from pyannote.core import SlidingWindow, SlidingWindowFeature

    chunks = SlidingWindow(start=0.0, duration=float(votes.window), step=float(votes.stride))
    scores = Inference.aggregate(
        SlidingWindowFeature(make(0, votes.windows).numpy(), chunks),
        frames=SlidingWindow(start=0.0, duration=1.0, step=1.0),
        hamming=votes.weighting == "hamming",
    )
    return torch.from_numpy(scores.data[: votes.frames])


RIVALS = {"pyannote.audio": pyannote, "MONAI": monai, "SoftVoting": soft_voting}


def layout(name: str, logits: Tensor) -> Tensor:
    """What a rival takes: its network would have made it so."""
    if name == "SoftVoting":
        return logits
    scores = logits.softmax(-1)
    return scores.transpose(1, 2).contiguous() if name == "MONAI" else scores


def seconds_and_scores(votes: Votes, repeats: int) -> dict[str, tuple[float, Tensor]]:
    logits = votes.logits(0, votes.windows)
    given = {name: layout(name, logits) for name in RIVALS}
    seconds: dict[str, list[float]] = {name: [] for name in RIVALS}
    scores = {}
    for _ in range(repeats):
        for name, rival in RIVALS.items():
            begin = time.perf_counter()
            scores[name] = rival(votes, lambda first, last, name=name: given[name][first:last])
            seconds[name].append(time.perf_counter() - begin)
    return {name: (median(seconds[name]), scores[name]) for name in RIVALS}


def peak_memory(name: str, votes: Votes) -> float:
    """MiB beyond what the process holds before; to be called in a fresh one."""

    def make(first: int, last: int) -> Tensor:
        if last - first <= votes.batch:
            return layout(name, votes.logits(first, last))
        everything = torch.empty(last - first, votes.window, votes.classes)
        for start in range(first, last, votes.batch):
            everything[start : start + votes.batch] = make(start, min(start + votes.batch, last))
        return everything

    few = Votes(2 * votes.batch, *(getattr(votes, field) for field in list(vars(votes))[1:]))
    RIVALS[name](few, make)  # imports, and what PyTorch keeps once it is used
    before = memory_in_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew
    RIVALS[name](votes, make)
    return memory_in_mib("VmHWM") - before


def memory_in_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:"))) / 1024


def vote(given: argparse.Namespace) -> None:
    votes = Votes(given.windows, given.window, given.stride, given.classes, given.batch, given.weighting)
    measured = seconds_and_scores(votes, given.repeats)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        memory = {name: fresh.apply(partial(peak_memory, name, votes)) for name in RIVALS}
    ours, reference = measured["SoftVoting"]
    table = Table(
        title=f"{votes.windows} windows of {votes.window} frames, {votes.stride} apart, "
        f"{votes.classes} classes, {votes.weighting} weights\n{machine()}"
    )
    for column in ("", "seconds", "SoftVoting is", "peak memory", "SoftVoting takes", "largest difference"):
        table.add_column(column, justify="right")
    for name, (seconds, scores) in measured.items():
        table.add_row(
            name,
            f"{seconds:.3f}",
            f"{seconds / ours:.1f} x as fast",
            f"{memory[name]:.0f} MiB",
            f"{memory['SoftVoting'] / memory[name]:.2f} of it",
            f"{float((scores - reference).abs().max()):.1e}",
        )
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    votes = commands.add_parser(
        "votes", help="aggregation of windows", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    votes.set_defaults(run=vote)
    votes.add_argument("--windows", type=int, default=36_000, help="how many")
    votes.add_argument("--window", type=int, default=64, help="frames of each")
    votes.add_argument("--stride", type=int, default=16, help="frames between their starts")
    votes.add_argument("--classes", type=int, default=8, help="scores a frame")
    votes.add_argument("--batch", type=int, default=512, help="windows at a time, where a rival streams")
    votes.add_argument("--weighting", choices=("uniform", "hamming"), default="hamming", help="weights")
    votes.add_argument("--repeats", type=int, default=5, help="runs of each rival")
    whole_video.add_commands(commands)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
