"""What is told of one video: an expression for each frame, and the stretches of the video."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from abaw.data.single import VOICE_RATE
from abaw.labels import IGNORE_INDEX

_DIGITS: Final = 5
"""Of lengths in seconds: frames' times are rounded, and five of them must be 0.2 s wherever they lie."""


class Stretch(NamedTuple):
    """Consecutive frames with the same expression, and the same modalities to tell it by."""

    start: float
    """Seconds on the video's clock, of the first frame."""
    end: float
    """Seconds: where the next stretch starts, or one frame after the last."""
    expression: str | None
    """Name of the class; None where nothing was seen and nothing heard, so that nothing is told."""
    score: float
    """Its mean probability over the frames that have scores; 0 where none has."""
    face: bool
    """Whether a face was there."""
    voice: bool
    """Whether the sound track covered the frames."""


@dataclass(frozen=True)
class VideoPrediction:
    """What a model says of one video of N frames; tensors are on the CPU.

    A frame of which the model was given neither face nor voice has no answer of its own: what its windows
    vote there is made of its neighbours and its place alone, and isn't told.

    Attributes:
        video_id: The file's name, without its ending.
        class_names: Names of the C classes.
        time: float64 (N,), when each frame is shown, seconds on the video's own clock.
        scores: float32 (N, C), probabilities; zeros where ``covered`` or ``seen_or_heard`` is False.
        labels: int64 (N,), the class of each frame: that of the highest score, or what a tuned run decides. A
            frame that no window covered takes the nearest one's; ``IGNORE_INDEX`` where ``seen_or_heard`` is
            False.
        covered: bool (N,), True where at least one window saw the frame.
        video_mask: bool (N,), True where a face was there, and the model looks.
        audio_mask: bool (N,), True where the sound track covered the frame, and the model listens.
        frame_seconds: For how long the file shows a picture on average; it tells how long a single one lasts.
    """

    video_id: str
    class_names: list[str]
    time: Tensor
    scores: Tensor
    labels: Tensor
    covered: Tensor
    video_mask: Tensor
    audio_mask: Tensor
    frame_seconds: float = 1 / VOICE_RATE

    @property
    def seen_or_heard(self) -> Tensor:
        """Where the model was given a face or a voice, bool (N,)."""
        return self.video_mask | self.audio_mask

    def timeline(self, min_seconds: float = 0.0, smooth: float = 0.0) -> list[Stretch]:
        """The stretches of the video: a new one where the expression, the face or the voice changes.

        Args:
            min_seconds: The least length of a stretch. The shortest one (of equals the first) is absorbed by
                its neighbour with the same expression, else by the longer one, else by the earlier; it takes
                that one's expression, face and voice, None and False included. So it goes on until none is
                too short, or one alone is left.
            smooth: Each frame takes the class that is decided most often among the frames within half of
                these seconds before and after it (of equals its own, if it is one of them, else the first).
                Frames without an answer have no vote, and get none. It comes before ``min_seconds``.

        Returns:
            The stretches in order, without a gap between them.

        Raises:
            ValueError: If one of the numbers is negative or not finite.
        """
        for name, value in {"min_seconds": min_seconds, "smooth": smooth}.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is a number of seconds, not {value}")
        times = self.time.tolist()
        if not times:
            return []
        interval = float(self.time.diff().median()) if len(times) > 1 else self.frame_seconds
        times.append(times[-1] + interval)
        labels = _most_frequent(self.labels, self.time, len(self.class_names), smooth)
        runs = find_runs(labels, self.video_mask, self.audio_mask)
        runs = absorb_short(runs, times, min_seconds)
        scored = self.covered & self.seen_or_heard
        return [describe_run(run, times, self.scores, scored, self.class_names) for run in runs]


class State(NamedTuple):
    """What the frames of a stretch have in common."""

    label: int
    """Class index; ``IGNORE_INDEX`` where nothing is told."""
    face: bool
    voice: bool


class Run(NamedTuple):
    """Consecutive frames, and the state that stands for them."""

    first: int
    last: int
    """The frame after the last one."""
    state: State


def find_runs(labels: Tensor, face: Tensor, voice: Tensor) -> list[Run]:
    """Cut a video where the label, the face or the voice changes.

    Args:
        labels: int64 (N,), ``IGNORE_INDEX`` where nothing is told.
        face: bool (N,).
        voice: bool (N,).
    """
    columns = torch.stack([labels, face.long(), voice.long()])
    changes = (columns[:, 1:] != columns[:, :-1]).any(0).nonzero()[:, 0] + 1
    bounds = [0, *changes.tolist(), len(labels)] if len(labels) else []
    return [
        Run(first, last, State(int(labels[first]), bool(face[first]), bool(voice[first])))
        for first, last in pairwise(bounds)
    ]


def absorb_short(runs: Sequence[Run], times: Sequence[float], min_seconds: float) -> list[Run]:
    """Let the neighbours of short runs absorb them.

    The shortest run goes first, of equals the earliest. The neighbour that absorbs it is the one with the
    same label; if both have it or neither, the longer one; of equals the earlier one. Two neighbours that
    then have the same state are one run. So it goes on until no run is too short, or one alone is left.

    Args:
        runs: The runs of a video, none missing; neighbours differ in their state.
        times: N + 1 seconds, when each frame is shown, and when the last one ends.
        min_seconds: The least length of a run.
    """
    alive = dict(enumerate(runs))
    before = {index: index - 1 for index in alive}
    after = {index: index + 1 for index in alive}

    least = round(min_seconds, _DIGITS)

    def seconds(index: int) -> float:
        return round(times[alive[index].last] - times[alive[index].first], _DIGITS)

    def take(index: int, other: int) -> None:
        """Let a run absorb a neighbour; the earlier place of the two stays in the chain."""
        kept, gone = min(index, other), max(index, other)
        alive[kept] = Run(alive[kept].first, alive[gone].last, alive[index].state)
        del alive[gone]
        after[kept] = after[gone]
        before[after[gone]] = kept

    # Of a run that has grown or gone, an entry stays behind: its length tells.
    short = [(seconds(index), index) for index in alive if seconds(index) < least]
    heapq.heapify(short)
    while short and len(alive) > 1:
        length, index = heapq.heappop(short)
        if index not in alive or seconds(index) != length:
            continue
        neighbours = [other for other in (before[index], after[index]) if other in alive]
        label = alive[index].state.label
        # `max` takes the first of equals, which is the earlier one.
        stronger = max(neighbours, key=lambda other: (alive[other].state.label == label, seconds(other)))
        take(stronger, index)
        grown = min(stronger, index)
        for other in (before[grown], after[grown]):
            if other in alive and alive[other].state == alive[grown].state:
                take(grown, other)
                grown = min(grown, other)
        if seconds(grown) < least:
            heapq.heappush(short, (seconds(grown), grown))
    return [alive[index] for index in sorted(alive)]


def describe_run(
    run: Run, times: Sequence[float], scores: Tensor, scored: Tensor, class_names: Sequence[str]
) -> Stretch:
    """Say a run in words.

    Args:
        run: The run.
        times: N + 1 seconds, as for `absorb_short`.
        scores: float (N, C), probabilities.
        scored: bool (N,), which frames have scores.
        class_names: Names of the C classes.
    """
    label, face, voice = run.state
    name, score = None, 0.0
    if label != IGNORE_INDEX:
        name = class_names[label]
        own = scores[run.first : run.last, label][scored[run.first : run.last]]
        score = float(own.mean()) if len(own) else 0.0
    return Stretch(times[run.first], times[run.last], name, score, face, voice)


def _most_frequent(labels: Tensor, times: Tensor, num_classes: int, seconds: float) -> Tensor:
    """The most frequent class around each frame; what is ``IGNORE_INDEX`` stays so."""
    there = labels != IGNORE_INDEX
    votes = one_hot(labels.clamp_min(0), num_classes) * there[:, None]
    until = torch.cat([votes.new_zeros(1, num_classes), votes.cumsum(0)])
    reach = seconds / 2 + 10.0**-_DIGITS
    first = torch.searchsorted(times, times - reach)
    last = torch.searchsorted(times, times + reach, right=True)
    # Of classes that are as frequent, the frame's own: half of what one frame more would add.
    return torch.where(there, (2 * (until[last] - until[first]) + votes).argmax(-1), labels)
