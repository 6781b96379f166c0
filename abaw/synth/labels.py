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
"""Frames that there must be for each stretch owed."""
_SLACK = 1.4
"""How many more stretches than those owed a split has room for."""


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

    The chain is drawn anew until every class has its stretches. A split too small for natural dwell times
    gets shorter ones.

    Args:
        rng: Source of chance.
        num_frames: N, frames of each recording.
        fps: Frames a second of each recording.

    Returns:
        For each recording int64 (N,), every class in at least five stretches of the whole, fewer only where
        there are fewer than 480 frames in all.
    """
    classes, total = len(EXPRESSIONS), num_frames * len(fps)
    owed = int(np.clip(total // (classes * _ROOM), 1, _STRETCHES))
    longest = total / (classes * owed * _SLACK)
    while True:
        split = [_draw(rng, num_frames, np.minimum(_DWELL * rate, longest)) for rate in fps]
        seen = np.concatenate([stretches(labels)[0] for labels in split])
        if np.bincount(seen, minlength=classes).min() >= owed:
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


def _draw(rng: np.random.Generator, num_frames: int, dwell: NDArray[np.float64]) -> Labels:
    """Run the chain over one recording, ``dwell`` frames on average in each class."""
    chain = transition_matrix()
    labels = np.empty(num_frames, np.int64)
    frame, state = 0, int(rng.integers(len(EXPRESSIONS)))
    while frame < num_frames:
        state = int(rng.choice(len(EXPRESSIONS), p=chain[state]))
        length = round(dwell[state] * (0.5 + rng.gamma(2.0, 0.25)))
        if num_frames - frame - length < dwell.min() / 2:  # no stub at the end
            length = num_frames - frame
        labels[frame : frame + length] = state
        frame += length
    return labels
