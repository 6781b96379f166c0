"""A bias for each class that makes macro-F1 as large as it gets."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MAX_ROUNDS: Final = 50
_TIED: Final = 1e-9
"""Thresholds no farther apart have no bias between them: rounding might put a frame on either side."""


def fit_bias(logits: Tensor, target: Tensor) -> Tensor:
    """Fit what to add to each class's logit so that the largest one gives the best macro-F1.

    Coordinate ascent from no bias at all. In each step all biases but one are held: every frame then has one
    threshold above which that class wins it, and macro-F1 is counted exactly between every two neighbours of
    the sorted thresholds, so that a step finds the best there is. Steps go around the classes until none
    improves anything. The result is never worse than no bias on the frames that it is fitted on, and says
    little about others: fit on some videos and measure on others. (Thresholds for F1: Lipton et al.,
    *Thresholding Classifiers to Maximize F1 Score*, 2014.)

    The bias of a class that no frame is annotated with stays where it is, since nothing tells where it should
    be.

    Args:
        logits: (N, C), logits or log-probabilities, all of them finite, of the frames of any videos.
        target: int64 (N,), class index; frames with a negative one are left out.

    Returns:
        float64 (C,), with a mean of 0: what is added to all classes decides nothing.

    Raises:
        ValueError: If the shapes do not fit, or a logit that counts is not finite.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 1.0], [2.0, 1.5], [2.0, 1.6]])
        >>> bias = fit_bias(logits, torch.tensor([0, 0, 1, 1]))
        >>> (logits + bias).argmax(-1)
        tensor([0, 0, 1, 1])
    """
    if logits.ndim != 2 or target.shape != logits.shape[:1]:
        raise ValueError(
            f"expected logits (N, C) and target (N,); got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    counted = target.cpu() >= 0
    kept = logits.detach().cpu().double()[counted].T.contiguous().numpy()
    labels = target.cpu()[counted].numpy()
    if not np.isfinite(kept).all():
        raise ValueError("logits must be finite: leave out the frames that have none")
    support = np.bincount(labels, minlength=len(kept))
    bias = np.zeros(len(kept))
    reached = _macro_f1(kept, labels, support)
    for _ in range(_MAX_ROUNDS):
        before = reached
        for label in np.flatnonzero(support):
            f1, value = _best_bias(kept + bias[:, None], labels, support, int(label))
            if f1 > reached + 1e-12:
                reached = f1
                bias[label] += value
        if reached == before:
            break
    return torch.from_numpy(bias - bias.mean())


def _best_bias(
    logits: NDArray[np.float64], labels: NDArray[np.int64], support: NDArray[np.int64], label: int
) -> tuple[float, float]:
    """The best macro-F1 that a bias on one class reaches, and that bias.

    Args:
        logits: (C, N).
        labels: (N,), class indices.
        support: (C,), how many frames each class has.
        label: The class.
    """
    others = logits.copy()
    others[label] = -np.inf
    rival = others.argmax(0)
    threshold = others.max(0) - logits[label]
    order = threshold.argsort()
    threshold, rival, truth = threshold[order], rival[order], labels[order]

    # As the bias grows, frame after frame goes from its rival to the class. C times macro-F1 after n of them:
    # the class's own part, and what the others start from and then lose, each with the frames that it loses.
    num_frames = len(labels)
    hits = np.concatenate([[0], (truth == label).cumsum()])
    total = 2 * hits / np.maximum(np.arange(num_frames + 1) + support[label], 1)
    changes = np.zeros(num_frames + 1)
    for other in range(len(logits)):
        if other != label:
            lost = np.flatnonzero(rival == other)
            lost_hits = np.concatenate([[0], (truth[lost] == other).cumsum()])
            given = np.arange(len(lost), -1, -1)
            f1 = 2 * (lost_hits[-1] - lost_hits) / np.maximum(given + support[other], 1)
            changes[0] += f1[0]
            changes[lost + 1] = np.diff(f1)
    total += changes.cumsum()
    gaps = np.diff(threshold)
    total[1:-1][gaps <= _TIED] = -np.inf
    best = int(total.argmax())
    if best == 0:
        value = threshold[0] - 1
    elif best == num_frames:
        value = threshold[-1] + 1
    else:
        value = (threshold[best - 1] + threshold[best]) / 2
    return float(total[best] / len(logits)), float(value)


def _macro_f1(logits: NDArray[np.float64], labels: NDArray[np.int64], support: NDArray[np.int64]) -> float:
    chosen = logits.argmax(0)
    hits = np.bincount(labels[chosen == labels], minlength=len(support))
    given = np.bincount(chosen, minlength=len(support))
    return float((2 * hits / np.maximum(given + support, 1)).mean())
