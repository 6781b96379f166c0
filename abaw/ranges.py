"""Numbers that somebody gives, held against what makes sense before anything is made of them."""

import math
import numbers
import os
from typing import Any, Final

from abaw.errors import InputError

MOST_FRAMES: Final = 100_000
"""Frames of a window, or of what slides over a video: close to an hour."""
MOST_FEATURES: Final = 65_536
"""Features of a frame, or channels of a layer."""
MOST_LAYERS: Final = 1000
MOST_IN_BATCH: Final = 100_000
MOST_WORKERS: Final = 1024
MOST_SEED: Final = 2**63 - 1
MOST_STEPS: Final = 2**31 - 1
MOST_IN_VIDEO: Final = 10_000_000
"""Frames of a video: four days."""
MOST_PIXELS: Final = 8192
"""Height and width of a crop."""
MOST_SAMPLES: Final = 16_000 * 3600
"""Samples of sound that are looked at together: an hour."""
MOST_SHARPNESS: Final = 100
"""Of the exponents and factors of losses."""
MOST_RATE: Final = 100
"""Of learning rates and weight decay, which do nothing but break a training far below."""
MOST_BIAS: Final = 1e6
MOST_COUNT: Final = 2**53
"""What a float can count to."""


def check_count(least: int, most: int, /, **arguments: object) -> None:
    """Refuse what is no whole number of a range; ``None`` passes, as what was not said.

    Raises:
        InputError: One is none, and is named.

    >>> check_count(1, 10, window=4, stride=None)
    >>> check_count(1, 10, window=0)
    Traceback (most recent call last):
    abaw.errors.InputError: window must be at least 1, not 0.
    """
    value: Any
    for name, value in arguments.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, numbers.Integral)):
            raise _refusal(name, "a whole number", value)
        if not least <= int(value) <= most:
            raise _refusal(name, f"at least {least}" if int(value) < least else f"at most {most}", value)


def check_number(least: float, most: float, /, *, below: bool = False, **arguments: object) -> None:
    """Refuse what is no finite number of a range; ``None`` passes, as what was not said.

    Args:
        least: The smallest that is accepted.
        most: The largest.
        below: Whether the largest is itself too large.
        **arguments: The numbers, by name.

    Raises:
        InputError: One is none, and is named.

    >>> check_number(0, 1, dropout=0.5)
    >>> check_number(0, 1, dropout=float("nan"))
    Traceback (most recent call last):
    abaw.errors.InputError: dropout must be a finite number, not nan.
    """
    value: Any
    for name, value in arguments.items():
        if value is None:
            continue
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        # Not math.isfinite, which gives up on whole numbers too large for a float.
        if not (real and -math.inf < value < math.inf):
            raise _refusal(name, "a finite number", value)
        if value < least:
            raise _refusal(name, f"at least {least:g}", value)
        if value > most or (below and value == most):
            raise _refusal(name, f"below {most:g}" if below else f"at most {most:g}", value)


def check_memory(size: float, **arguments: object) -> None:
    """Refuse, before it is asked for, what this machine's memory can't hold.

    Args:
        size: Bytes.
        **arguments: What makes it so large, by name.

    Raises:
        InputError: It is larger than the memory.
    """
    if size > (memory := _memory()):
        named = ", ".join(f"{name}={_short(value)}" for name, value in arguments.items())
        raise InputError(
            f"{named} would take {size / 2**30:,.0f} GiB of memory, and this machine has "
            f"{memory / 2**30:,.0f}: make it smaller."
        )


def check_weights(count: float, **arguments: object) -> None:
    """Refuse a network of more weights than memory can hold; see :func:`check_memory`."""
    check_memory(4 * count, **arguments)


def _memory() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not told on this system
        return math.inf


def _refusal(name: str, wanted: str, value: object) -> InputError:
    return InputError(f"{name} must be {wanted}, not {_short(value)}.")


def _short(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"  # Python refuses to print very long ones
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
