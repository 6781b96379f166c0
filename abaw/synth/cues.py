"""Cues of face and voice: they follow the expression with delay, noise and changing strength."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from abaw.synth.labels import Labels, stretches

Track = NDArray[np.float64]

WEAKEST: Final = 0.75
"""Least strength of an expression where nothing else is asked for: all are plain to see and hear."""


def wander(rng: np.random.Generator, num: int, rate: float, seconds: float, size: int = 1) -> Track:
    """Draw slow noise of about unit variance, one knot every ``seconds``.

    Args:
        rng: Source of chance.
        num: T, how many values.
        rate: Values a second.
        seconds: Time from knot to knot.
        size: D, how many independent ones.

    Returns:
        float64 (T, D).
    """
    position = np.arange(num) / rate / seconds + rng.random()
    knots = rng.standard_normal((int(position[-1]) + 2, size))
    before, part = position.astype(int), (0.5 - 0.5 * np.cos(np.pi * (position % 1)))[:, None]
    # sqrt(1.33): interpolation between independent knots takes a quarter of the variance away
    slow: Track = 1.15 * (knots[before] * (1 - part) + knots[before + 1] * part)
    return slow


def follow(
    rng: np.random.Generator, labels: Labels, prototypes: Track, rate: float, weakest: float, noise: float
) -> Track:
    """Turn labels into cues: each stretch with a strength of its own, eased in over 0.2 s, with slow noise.

    Args:
        rng: Source of chance.
        labels: int64 (T,), the expression at each moment.
        prototypes: float64 (C, D), the D cues of each class at full strength.
        rate: Moments a second.
        weakest: Least strength of a stretch; the most is 1.15.
        noise: Standard deviation of the noise.

    Returns:
        float64 (T, D).
    """
    values, bounds = stretches(labels)
    strength = np.repeat(rng.uniform(weakest, 1.15, len(values)), np.diff(bounds))
    target = prototypes[labels] * strength[:, None]
    ease = np.hanning(max(3, round(0.2 * rate) // 2 * 2 + 1) + 2)[1:-1]
    ease /= ease.sum()
    padded = np.pad(target, ((len(ease) // 2,) * 2, (0, 0)), mode="edge")
    eased = np.stack([np.convolve(column, ease, mode="valid") for column in padded.T], axis=1)
    return eased + noise * wander(rng, len(labels), rate, 0.4, prototypes.shape[1])
