"""Which present frame is nearest to each frame."""

import torch
from torch import Tensor


def nearest_present(present: Tensor) -> Tensor:
    """Nearest frame that is present; of two as near, the earlier one.

    Args:
        present: bool (N,).

    Returns:
        int64 (N,), on the CPU: a present frame is its own nearest one, and so is every frame where none is
        present.

    Example:
        >>> nearest_present(torch.tensor([False, True, False, False, True]))
        tensor([1, 1, 1, 4, 4])
    """
    frames = torch.arange(len(present))
    there = frames[present.cpu()]
    if len(there) == 0:
        return frames
    after = torch.searchsorted(there, frames).clamp(max=len(there) - 1)
    later, earlier = there[after], there[(after - 1).clamp(min=0)]
    return torch.where((frames - earlier).abs() <= (later - frames).abs(), earlier, later)
