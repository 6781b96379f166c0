"""Smoothing of one video's scores along time."""

from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from abaw.ranges import MOST_FRAMES, check_number

_BLOCK: Final = 2**23
SmoothingKind = Literal["median", "box", "gaussian"]


def smooth(
    scores: Tensor, kind: SmoothingKind = "median", width: float = 15, covered: Tensor | None = None
) -> Tensor:
    """Smooth the scores of one video along time.

    Each frame becomes the mean, the Gaussian mean or the class-wise median of the covered frames around it. A
    window that reaches beyond the video, or over frames that are not covered, is taken over what is left of
    it: nothing is padded, and probabilities stay probabilities. Medians of single classes don't sum to 1, so
    they are divided by their sum; a frame whose medians are all zero keeps its own scores.

    Call it once a video, never on several joined. It is computed in float64 on the CPU.

    Args:
        scores: floating (N, C), probabilities; not modified.
        kind: ``"box"`` is the mean.
        width: Frames in a window of the median or the box, an odd number; of the Gaussian the standard
            deviation in frames, its window ending at four of them.
        covered: bool (N,), False where a frame has no scores: it says nothing about others, and is given
            none. ``None`` means that all are covered.

    Returns:
        (N, C), as ``scores``; zeros where not ``covered``.

    Raises:
        ValueError: If a shape does not fit, a covered frame's score is not finite, or ``kind`` or ``width``
            is none of the above.

    Example:
        >>> scores = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> smooth(scores, "median", width=3).argmax(-1)
        tensor([0, 0, 0, 0])
        >>> smooth(scores, "box", width=3)[:2]
        tensor([[1.0000, 0.0000],
                [0.6667, 0.3333]])
    """
    if scores.ndim != 2 or not scores.is_floating_point():
        raise ValueError(f"expected floating scores (N, C), got {scores.dtype} {tuple(scores.shape)}")
    if covered is None:
        covered = torch.ones(len(scores), dtype=torch.bool)
    if covered.dtype != torch.bool or covered.shape != scores.shape[:1]:
        raise ValueError(
            f"expected covered bool ({len(scores)},), got {covered.dtype} {tuple(covered.shape)}"
        )
    check_smoothing(kind, width)
    there = covered.cpu()
    if not there.any():
        return torch.zeros_like(scores)
    # What is written where a frame is not covered may be anything, NaN included.
    given = torch.where(there[:, None], scores.detach().cpu().double(), 0.0)
    if not given.isfinite().all():
        raise ValueError("a score is not finite: say by covered which frames have none")
    if kind == "median":
        smoothed = _normalised_median(given, there, min(int(width), 2 * len(given) - 1))
    else:
        smoothed = _weighted_mean(given, there, _kernel(kind, width, len(given)))
    return torch.where(there[:, None], smoothed, 0.0).to(scores)


def check_smoothing(kind: str, width: float) -> None:
    """Check what :func:`smooth` can be asked for.

    Raises:
        ValueError: If it cannot.
    """
    if kind not in get_args(SmoothingKind):
        raise ValueError(f"kind must be one of {', '.join(get_args(SmoothingKind))}; got {kind!r}")
    check_number(0, MOST_FRAMES, width=width)
    if kind == "gaussian":
        if width == 0:
            raise ValueError(f"the width of a Gaussian is a positive number of frames, got {width}")
    elif width % 2 != 1:
        raise ValueError(f"the width of a {kind} is an odd number of frames, got {width}")


def _kernel(kind: SmoothingKind, width: float, num_frames: int) -> Tensor:
    """The weights of a window, as far as frames of a video are apart."""
    if kind == "box":
        return torch.ones(min(int(width), 2 * num_frames - 1), dtype=torch.float64)
    radius = min(int(4 * width + 0.5), num_frames - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    return torch.exp(-0.5 * (offsets / width) ** 2)


def _weighted_mean(scores: Tensor, covered: Tensor, kernel: Tensor) -> Tensor:
    # The weights that were met are summed just as the scores are, as one more class.
    columns = torch.cat([scores, covered[:, None].double()], dim=1).T[:, None]
    sums = functional.conv1d(columns, kernel[None, None], padding=len(kernel) // 2)[:, 0].T
    return sums[:, :-1] / sums[:, -1:].clamp_min(torch.finfo(torch.float64).tiny)


def _normalised_median(scores: Tensor, covered: Tensor, width: int) -> Tensor:
    there = covered.numpy()
    columns = [_median(column, there, width) for column in scores.numpy().T]
    medians = torch.from_numpy(np.stack(columns, axis=1))
    sums = medians.sum(-1, keepdim=True)
    return torch.where(sums > 0, medians / torch.where(sums > 0, sums, 1.0), scores)


def _median(values: NDArray[np.float64], covered: NDArray[np.bool_], width: int) -> NDArray[np.float64]:
    """Median over the covered frames of a window around each covered frame; other results mean nothing."""
    radius = width // 2
    # Infinities sort behind everything, so that the covered values of a window come first.
    padded = np.pad(np.where(covered, values, np.inf), radius, constant_values=np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)
    counts = np.isfinite(windows).sum(-1)
    # In blocks: the windows of a long video, copied, would be its length times their width.
    blocks = np.array_split(windows, 1 + windows.size // _BLOCK)
    medians = np.concatenate([np.partition(block, radius, axis=-1)[:, radius] for block in blocks])
    # The few windows that are not whole have their middle elsewhere, or two of them.
    rows = np.flatnonzero((counts < width) & covered)
    ordered, count = np.sort(windows[rows], axis=-1), counts[rows]
    at = np.arange(len(rows))
    medians[rows] = (ordered[at, (count - 1) // 2] + ordered[at, count // 2]) / 2
    return medians
