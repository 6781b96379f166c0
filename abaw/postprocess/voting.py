"""Soft voting: the class scores of overlapping windows become one score a frame."""

import warnings
from collections.abc import Callable
from typing import Final, Literal, get_args

import torch
from einops import rearrange
from torch import Tensor
from torch.signal import windows

from abaw.ranges import MOST_FEATURES, MOST_FRAMES, MOST_IN_VIDEO, check_count, check_memory

Weighting = Literal["uniform", "triangular", "hann", "hamming", "gaussian"]
Average = Literal["probability", "logits"]

# In float64: at the ends of a long window the cosines of single precision cancel to nothing.
_WEIGHTINGS: Final[dict[Weighting, Callable[[int], Tensor]]] = {
    "uniform": lambda window: torch.ones(window, dtype=torch.float64),
    # Two points longer, then cut: these two windows are zero at their ends.
    "triangular": lambda window: windows.bartlett(window + 2, dtype=torch.float64)[1:-1],
    "hann": lambda window: windows.hann(window + 2, dtype=torch.float64)[1:-1],
    "hamming": lambda window: windows.hamming(window, dtype=torch.float64),
    "gaussian": lambda window: windows.gaussian(window, std=window / 8, dtype=torch.float64),
}


class SoftVoting:
    """Averages what overlapping windows say of each frame of one video.

    Windows are added as they come, any number at a time. The sums are float32 whatever the logits are, and
    take N × C numbers however many windows there are; how the windows are split over calls of :meth:`add`
    changes nothing beyond rounding. Nothing waits for the device before :meth:`finish`.

    A window's frame with a NaN or an infinity among its logits has no vote; frames outside of the video (the
    padding of a short one) are left out as well.

    Args:
        num_frames: N, frames of the video.
        num_classes: C.
        window: Frames of a window.
        weighting: How much a window's frames count by their place in it. All weights are positive, so that
            each frame that a window saw is scored; ``"gaussian"`` has a standard deviation of an eighth of
            the window.
        average: ``"probability"``: the weighted mean of the windows' softmax; ``"logits"``: the softmax of
            the weighted mean of their logits. The scores are probabilities either way.
        device: Where the sums are kept; ``None`` means PyTorch's default. Logits are brought there.

    Raises:
        ValueError: If a size is out of range, or ``weighting`` or ``average`` is none of the above.

    Example:
        >>> voting = SoftVoting(num_frames=3, num_classes=2, window=2)
        >>> logits = torch.tensor([[[0.0, 0.0], [9.0, 0.0]], [[9.0, 0.0], [0.0, 9.0]]])
        >>> voting.add(logits, starts=torch.tensor([0, 1]))
        >>> scores, covered = voting.finish()
        >>> scores.argmax(-1), covered
        (tensor([0, 0, 1]), tensor([True, True, True]))
    """

    def __init__(
        self,
        num_frames: int,
        num_classes: int,
        window: int,
        weighting: Weighting = "uniform",
        average: Average = "probability",
        device: torch.device | str | None = None,
    ) -> None:
        check_count(0, MOST_IN_VIDEO, num_frames=num_frames)
        check_count(1, MOST_FEATURES, num_classes=num_classes)
        check_count(1, MOST_FRAMES, window=window)
        check_memory(4 * num_frames * (num_classes + 1), num_frames=num_frames, num_classes=num_classes)
        if weighting not in _WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(_WEIGHTINGS)}; got {weighting!r}")
        if average not in get_args(Average):
            raise ValueError(f"average must be one of {', '.join(get_args(Average))}; got {average!r}")
        self.num_frames = num_frames
        self.average = average
        self._window_weights = _WEIGHTINGS[weighting](window).float().to(device)
        self._places = torch.arange(window, device=device)
        # Classes first: over a last dimension of 8, PyTorch's softmax is ten times slower on the CPU. One
        # frame more than there are: what has no vote is added there, and never read.
        self._sums = torch.zeros(num_classes, num_frames + 1, device=device)
        self._weights = torch.zeros(num_frames + 1, device=device)
        self._num_excluded = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def num_excluded(self) -> int:
        """How many votes (frames of windows) were left out because they were not finite."""
        return int(self._num_excluded)

    def add(self, logits: Tensor, starts: Tensor) -> None:
        """Add the votes of W windows.

        Args:
            logits: (W, window, C), any floating type; not modified.
            starts: int64 (W,), the frame at which each window starts.

        Raises:
            ValueError: If the shapes do not fit.
        """
        expected = (len(starts), len(self._window_weights), len(self._sums))
        if starts.ndim != 1 or starts.dtype.is_floating_point or logits.shape != expected:
            raise ValueError(
                f"expected starts int64 (W,) and logits (W, window, C) = {expected}; "
                f"got starts {starts.dtype} {tuple(starts.shape)} and logits {tuple(logits.shape)}"
            )
        votes = rearrange(logits.detach().to(self._sums), "w t c -> c w t").contiguous()
        frames = starts.to(votes.device)[:, None] + self._places
        inside = (frames >= 0) & (frames < self.num_frames)
        # The largest magnitude is NaN or infinite if any is: several times faster than isfinite().all(0).
        finite = votes.abs().amax(0) < torch.inf
        self._num_excluded += (inside & ~finite).sum()

        if self.average == "probability":
            votes = votes.softmax(0)
        rows = torch.where(inside & finite, frames, self.num_frames).flatten()
        self._sums.index_add_(1, rows, (votes * self._window_weights).flatten(1))
        self._weights.index_add_(0, rows, self._window_weights.repeat(len(starts)))

    def finish(self) -> tuple[Tensor, Tensor]:
        """Scores of the video so far.

        Returns:
            ``(scores, covered)``: float32 (N, C), probabilities, zeros where no window had a vote; bool (N,),
            False there.

        Warns:
            UserWarning: If votes were left out because they were not finite, with their number.
        """
        if self.num_excluded:
            warnings.warn(
                f"{self.num_excluded} votes (frames of windows) were left out: their logits are not finite",
                stacklevel=2,
            )
        weights = self._weights[:-1]
        covered = weights > 0
        means = self._sums[:, :-1] / torch.where(covered, weights, 1.0)
        if self.average == "logits":
            means = means.softmax(0) * covered
        return rearrange(means, "c n -> n c").contiguous(), covered
