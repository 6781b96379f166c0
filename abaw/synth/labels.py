"""Expressions over time: a Markov chain with dwell times in seconds and a long tail."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from abaw.labels import EXPRESSIONS, IGNORE_INDEX

Labels = NDArray[np.int64]

_DWELL = np.array([2.0, 1.5, 1.3, 1.3, 1.8, 2.0, 1.1, 2.0])
"""Mean seconds that each expression lasts, in class order: a surprise is short, a sadness long."""
_RARITY = np.array([1, 10.4, 16.23, 19.61, 1.86, 2.23, 5.61, 1.06])
"""How many times rarer than Neutral each class is in Aff-Wild2."""
_STRETCHES = 5
"""Stretches of each class that a split shows, where it has room: an absent class caps macro-F1."""
_ROOM = 12
"""Fewest frames a stretch that is owed should get, on average, before fewer are owed."""


def transition_matrix() -> NDArray[np.float64]:
    """Return how likely each expression (row) is followed by each other (column), float64 (8, 8).

    Frequent classes follow more often, as in Aff-Wild2 but less so (to the power of 0.4): a small corpus
    would otherwise hold next to nothing of the rare ones. Neutral follows twice as often as that.

    >>> transition_matrix().sum(axis=1).round(6).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    weights: NDArray[np.float64] = np.tile(_RARITY**-0.4 / _DWELL, (len(EXPRESSIONS), 1))
    weights[:, 0] *= 2
    np.fill_diagonal(weights, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def draw_labels(rng: np.random.Generator, num_frames: int, fps: Sequence[float]) -> list[Labels]:
    """Draw the expressions of all recordings of a split.

    The chain runs freely while there is room; once the stretches that rare classes still owe to the split
    need all frames left, it is steered to these. A split too small for natural dwell times gets shorter ones.

    Args:
        rng: Source of chance.
        num_frames: N, frames of each recording.
        fps: Frames a second of each recording.

    Returns:
        For each recording int64 (N,), every class in at least five stretches of the whole, fewer only where
        there are fewer than 480 frames in all.
    """
    owed = int(np.clip(num_frames * len(fps) // (len(EXPRESSIONS) * _ROOM), 1, _STRETCHES))
    while True:
        split = _draw(rng, num_frames, fps, owed)
        if min(np.bincount(np.concatenate([v for v, _ in map(stretches, split)]), minlength=8)) >= owed:
            return split


def stretches(labels: Labels) -> tuple[Labels, Labels]:
    """Split labels (N,) into stretches: the class of each, and its first frame with N at the end.

    >>> values, bounds = stretches(np.array([4, 4, 0, 0, 0]))
    >>> values.tolist(), bounds.tolist()
    ([4, 0], [0, 2, 5])
    """
    starts = np.flatnonzero(np.diff(labels, prepend=-2))
    return labels[starts], np.append(starts, len(labels))


def leave_out(rng: np.random.Generator, labels: Labels, share: float) -> Labels:
    """Mark spans of labels (N,) as not annotated, where annotators are least sure: around transitions.

    Args:
        rng: Source of chance.
        labels: int64 (N,).
        share: Probability that a transition is left out. At most half of a stretch goes with each.

    Returns:
        A copy with ``IGNORE_INDEX`` in at least one span; no stretch is lost.
    """
    labels = labels.copy()
    bounds = stretches(labels)[1]
    spans = np.flatnonzero(rng.random(len(bounds) - 2) < share) + 1
    # The first frames are one more transition: from nothing.
    for k in spans if len(spans) else [0]:
        before = bounds[k] - bounds[k - 1] if k else 0
        reach = rng.uniform(0.25, 0.45)
        first, last = bounds[k] - int(reach * before), bounds[k] + int(reach * (bounds[k + 1] - bounds[k]))
        labels[first:last] = IGNORE_INDEX
    return labels


def _draw(rng: np.random.Generator, num_frames: int, fps: Sequence[float], owed: int) -> list[Labels]:
    """Draw one split, with each class in ``owed`` stretches unless the last ones run out of frames."""
    chain = transition_matrix()
    split: list[Labels | None] = [None] * len(fps)
    left, debt = num_frames * len(fps), np.full(len(EXPRESSIONS), owed)
    for video in rng.permutation(len(fps)):  # steering comes last: not always in the same videos
        dwell = np.minimum(_DWELL * fps[video], num_frames * len(fps) / (len(EXPRESSIONS) * owed * 1.4))
        labels = np.empty(num_frames, np.int64)
        frame, state = 0, 0
        while frame < num_frames:
            odds = chain[state].copy()
            if 1.4 * (debt.clip(0) * dwell).sum() >= left and (odds * (debt > 0)).any():
                odds *= debt > 0
            state = rng.choice(len(EXPRESSIONS), p=odds / odds.sum())
            length = round(dwell[state] * (0.5 + rng.gamma(2.0, 0.25)))
            if num_frames - frame - length < dwell.min() / 2:
                length = num_frames - frame
            labels[frame : frame + length] = state
            debt[state] -= 1
            frame, left = frame + length, left - length
        split[video] = labels
    return [labels for labels in split if labels is not None]
