"""Pictures a second: what a window of so many frames spans, in training and where the model is used."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from abaw.errors import InputError
from abaw.ranges import check_number

_LEAST_RATE: Final = 0.01
_MOST_RATE: Final = 1000.0
_LARGEST_DIFFERENCE: Final = 1.3
"""As a ratio: 24, 25 and 30 frames a second pass for alike, 30 and 60 don't."""


def rate_of(time: NDArray[np.float64]) -> float:
    """Frames a second, by the median interval of ``time``, float64 (N,), seconds; NaN for a single frame."""
    interval = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    return 1 / interval if interval > 0 else math.nan


def nearest_step(rate: float, wanted: float) -> int:
    """The frame step that brings a video of ``rate`` frames a second nearest to ``wanted``, as a ratio."""
    ratio = rate / wanted
    if not ratio > 1:  # NaN included
        return 1
    below = math.floor(ratio)
    return below if ratio / below <= (below + 1) / ratio else below + 1


def frame_steps(times: Sequence[NDArray[np.float64]], frame_step: int, frame_rate: float | None) -> list[int]:
    """The frame step of each video: the same one, or what brings it nearest to ``frame_rate``."""
    if frame_rate is None:
        return [frame_step] * len(times)
    return [nearest_step(rate_of(time), frame_rate) for time in times]


def check_frame_rate(frame_rate: float | None, frame_step: int) -> None:
    """Refuse a rate that is none, or that a frame step contradicts.

    Raises:
        InputError: Either.
    """
    if frame_rate is None:
        return
    check_number(_LEAST_RATE, _MOST_RATE, frame_rate=frame_rate)
    if frame_step != 1:
        raise InputError(
            f"frame_rate {frame_rate:g} chooses each video's frame step, and frame_step is {frame_step}: "
            "leave one of them out."
        )


def median_rate(rates: Sequence[float]) -> float | None:
    """The median of the rates that are known; None where none is."""
    known = [rate for rate in rates if math.isfinite(rate)]
    return round(float(np.median(known)), 3) if known else None


def warn_of_other_rates(rates: Mapping[str, float], trained: float | None) -> None:
    """Warn once, with their number, of videos whose windows span other times than where a model was trained.

    Args:
        rates: By the video's name, frames of a window a second.
        trained: The median where the model was trained; None where it isn't known.
    """
    if trained is None:
        return
    ratios = {name: rate / trained for name, rate in rates.items() if math.isfinite(rate)}
    other = {n: r for n, r in ratios.items() if max(r, 1 / r) > _LARGEST_DIFFERENCE}
    if not other:
        return
    worst = max(other, key=lambda name: abs(math.log(other[name])))
    help_ = (
        f"set frame_rate to {trained:g}"
        if other[worst] > 1
        else "only training at their rate (frame_rate) helps"
    )
    rank_zero_warn(
        f"{len(other)} of {len(rates)} videos show more or fewer frames a second than the {trained:g} that "
        f"the model was trained at; {worst} has {rates[worst]:.3g}, so that a window spans "
        f"{1 / other[worst]:.2g} times as long; {help_}.",
        category=UserWarning,
    )
