"""Where the overlapping windows of a video start."""

import torch
from torch import Tensor

from abaw.ranges import MOST_IN_VIDEO, MOST_STEPS, check_count


def window_starts(num_frames: int, window: int, stride: int) -> Tensor:
    """Start of every window over a video.

    Windows start ``stride`` frames apart; the last one is shifted back so that it ends with the video. A
    video no longer than a window is one window that starts at 0, to be padded. A stride longer than the
    window leaves gaps that no window covers.

    Args:
        num_frames: N, frames of the video.
        window: Frames of a window.
        stride: Frames from one window's start to the next one's.

    Returns:
        int64 (W,), ascending, without repetition; empty for a video without frames.

    Raises:
        ValueError: If ``num_frames`` is negative, or ``window`` or ``stride`` is not positive.

    Example:
        >>> window_starts(10, window=4, stride=4)
        tensor([0, 4, 6])
        >>> window_starts(3, window=4, stride=4)
        tensor([0])
    """
    check_count(0, MOST_IN_VIDEO, num_frames=num_frames)
    check_count(1, MOST_STEPS, window=window, stride=stride)
    if num_frames == 0:
        return torch.empty(0, dtype=torch.int64)
    last = max(num_frames - window, 0)
    return torch.arange(0, last + stride, stride).clamp(max=last)
