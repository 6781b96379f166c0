"""The most likely sequence of classes of one video, given how often classes follow each other."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def count_transitions(targets: Iterable[Tensor], num_classes: int) -> Tensor:
    """Count how often a class follows another one in the next frame.

    Args:
        targets: int64 (N,) of each video, negative where not annotated: such a frame breaks the chain, and so
            does the end of a video.
        num_classes: C.

    Returns:
        int64 (C, C), from row to column.

    Raises:
        ValueError: If a label is ``num_classes`` or more.

    Example:
        >>> count_transitions([torch.tensor([0, 0, 1, -1, 0]), torch.tensor([1, 1])], num_classes=2)
        tensor([[1, 1],
                [0, 1]])
    """
    counts = torch.zeros(num_classes * num_classes, dtype=torch.int64)
    for target in targets:
        if (target >= num_classes).any():
            raise ValueError(f"labels must be below {num_classes}, got {int(target.max())}")
        before, after = target[:-1], target[1:]
        annotated = (before >= 0) & (after >= 0)
        pairs = (before * num_classes + after)[annotated]
        counts += torch.bincount(pairs.cpu(), minlength=len(counts))
    return counts.view(num_classes, num_classes)


def log_transitions(counts: Tensor) -> Tensor:
    """Logarithms of the probabilities that a class follows another one.

    One is added to every count (Laplace's rule of succession), so that nothing is impossible that was merely
    not seen, and a class that was never seen is followed by any with the same probability.

    Args:
        counts: int64 (C, C), from row to column.

    Returns:
        float64 (C, C); the exponentials of a row sum to 1.
    """
    smoothed = counts.double() + 1
    return (smoothed / smoothed.sum(-1, keepdim=True)).log()


def viterbi(log_scores: Tensor, log_transitions: Tensor) -> Tensor:
    """Find the sequence of classes whose sum of scores and transitions is the largest.

    Every class may come first. Of sequences that are equally good, the classes are the lower ones, decided
    from the last frame to the first. Weights on the transitions are multiplied onto them by the caller;
    several are decoded in one go, about as fast as one.

    Computed in float64 on the CPU, with one step a frame (Viterbi, *Error Bounds for Convolutional Codes*,
    1967; Rabiner, *A Tutorial on Hidden Markov Models*, 1989, section III.B).

    Args:
        log_scores: (N, C), the logarithm of each class's score in each frame of one video.
        log_transitions: (…, C, C), the logarithm of each transition's score, from row to column.

    Returns:
        int64 (…, N), the classes.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> doubtful = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]]).log()
        >>> viterbi(doubtful, torch.tensor([[0.8, 0.2], [0.2, 0.8]]).log())
        tensor([0, 0, 0])
    """
    num_classes = log_scores.shape[-1]
    if log_scores.ndim != 2 or log_transitions.shape[-2:] != (num_classes, num_classes):
        raise ValueError(
            "expected log_scores (N, C) and log_transitions (…, C, C); "
            f"got {tuple(log_scores.shape)} and {tuple(log_transitions.shape)}"
        )
    batch = log_transitions.shape[:-2]
    if len(log_scores) == 0:
        return torch.zeros(*batch, 0, dtype=torch.int64)
    scores = log_scores.detach().cpu().double().numpy()
    # From column to row: the last axis is the one that is searched, which is several times faster. NumPy, as
    # PyTorch takes longer to dispatch one step than to compute it.
    given = log_transitions.detach().cpu().double().reshape(-1, num_classes, num_classes)
    into = given.mT.contiguous().numpy()
    came_from = np.empty((len(scores), *into.shape[:-1]), dtype=np.int64)
    best = np.broadcast_to(scores[0], into.shape[:-1])
    for frame in range(1, len(scores)):
        paths = best[:, None, :] + into
        paths.argmax(-1, out=came_from[frame])
        best = paths.max(-1) + scores[frame]

    labels = np.empty((len(into), len(scores)), dtype=np.int64)
    labels[:, -1] = best.argmax(-1)
    rows = np.arange(len(into))
    for frame in range(len(scores) - 1, 0, -1):
        labels[:, frame - 1] = came_from[frame, rows, labels[:, frame]]
    return torch.from_numpy(labels).view(*batch, len(scores))
