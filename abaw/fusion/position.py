"""Position of a frame, from its own timestamp."""

import torch
from torch import Tensor

POSITIONS_PER_SECOND = 30.0
"""How far apart a second's two ends are, in the positions of Vaswani et al.: at 30 frames a second, one a
frame."""


def sinusoidal_position(time: Tensor, dim: int) -> Tensor:
    """Sinusoidal position encoding (Vaswani et al. 2017, section 3.5) of points in time.

    The position is ``30 · time``, whatever the frame rate: the same moment has the same encoding in a video
    of 25 and in one of 60 frames a second.

    Args:
        time: float (…), seconds.
        dim: D, the size of the encoding; even.

    Returns:
        (…, D) in the dtype of ``time``: D / 2 sines, then D / 2 cosines, from the fastest to the slowest.

    Raises:
        ValueError: If ``dim`` is odd.

    >>> sinusoidal_position(torch.zeros(1), 4)
    tensor([[0., 0., 1., 1.]])
    """
    if dim % 2:
        raise ValueError(f"dim must be even, got {dim}")
    exponent = torch.arange(0, dim, 2, device=time.device, dtype=time.dtype) / dim
    angle = POSITIONS_PER_SECOND * time[..., None] * 10_000.0**-exponent
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def rotate(tokens: Tensor, position: Tensor) -> Tensor:
    """Rotary position (Su et al. 2021, section 3.2.2): turn pairs of values by the angles of their position.

    The dot product of two turned tokens depends on the distance of their positions alone. Pairs are (i, i +
    D / 2) instead of the paper's (2 i, 2 i + 1): the same up to the order of a projection's rows.

    Args:
        tokens: (…, T, D), queries or keys of one head.
        position: (…, T, D), from :func:`sinusoidal_position`.

    Returns:
        (…, T, D) in the dtype of ``tokens``.
    """
    sin, cos = position.to(tokens.dtype).chunk(2, dim=-1)
    first, second = tokens.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def time_in_window(time: Tensor | None, frame_mask: Tensor) -> Tensor:
    """Seconds from the window's first real frame to each frame, 0 at padding.

    Args:
        time: float (B, T), seconds on any clock; ``None`` means 30 frames a second.
        frame_mask: bool (B, T), True where the frame exists.

    Returns:
        float (B, T), float32 or wider.
    """
    if time is None:
        frames = torch.arange(frame_mask.shape[1], device=frame_mask.device, dtype=torch.float32)
        time = (frames / POSITIONS_PER_SECOND).expand_as(frame_mask)
    time = time.to(torch.promote_types(time.dtype, torch.float32))
    first = torch.where(frame_mask, time, torch.inf).amin(dim=1, keepdim=True)
    return torch.where(frame_mask, time - first, 0)
