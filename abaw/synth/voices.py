"""Synthesised voices: pitch, energy, rhythm and formants tell what the face doesn't."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from abaw.synth.cues import WEAKEST, Track, follow, wander
from abaw.synth.labels import Labels

Sound = NDArray[np.float32]

CUES: Final = ("pitch", "melody", "rate", "loudness", "brightness", "breath", "tremor", "formants")
PROTOTYPES: Final = np.array(
    [  # pitch melody rate loud bright breath tremor formants
        [0.0, 1.0, 3.6, 0.0, 0.0, 0.02, 0.00, 0.00],  # Neutral
        [4.0, 3.5, 5.0, 9.0, 5.0, 0.01, 0.00, 0.00],  # Anger
        [-0.7, 1.3, 3.2, 0.5, 0.0, 0.03, 0.00, -0.02],  # Disgust
        [7.0, 4.5, 6.5, 2.0, 1.0, 0.06, 0.9, 0.05],  # Fear
        [6.5, 5.0, 6.2, 2.5, 1.5, 0.05, 0.7, 0.08],  # Happiness
        [-3.0, 1.0, 2.1, -6.0, -5.0, 0.20, 0.15, 0.00],  # Sadness
        [4.7, 4.0, 4.8, 8.0, 4.5, 0.01, 0.00, 0.00],  # Surprise
        [-2.5, 1.3, 2.3, -5.5, -4.5, 0.18, 0.10, 0.00],  # Other
    ]
)
"""The voice's part of each expression: pitch and melody in semitones, syllables a second, loudness in dB,
brightness in dB an octave, breath as a share of the voice, tremor in semitones, formants as a share of their
frequency. Neutral and Disgust, Anger and Surprise, Fear and Happiness, Sadness and Other sound nearly alike:
the face tells them apart."""

RATE: Final = 16000
"""Samples a second of the synthesis."""
CONTROL: Final = 100
"""Control values a second."""
_HARMONICS = 36  # those above Nyquist fold back under the background noise
_VOWELS = np.array(
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240]]
)
_BANDWIDTH = np.array([90.0, 120.0, 180.0])


@dataclass(frozen=True)
class Voice:
    """What was said: the sound, and how far the mouth moved for it."""

    sound: Sound
    """(S,) mono at 16 kHz, in [-1, 1]."""
    mouth: Track
    """(T,) loudness of the syllables at 100 Hz, 0 to 1."""


def draw_voice(rng: np.random.Generator, labels: Labels, weakest: float = WEAKEST) -> Voice:
    """Draw a speaker and let it speak in bursts, with the pitch, energy and rhythm of each expression.

    The sound is a sum of harmonics weighted by three formants, after the source-filter model (G. Fant,
    "Acoustic theory of speech production", 1960), with breath and a background of noise and hum.

    Args:
        rng: Source of chance.
        labels: int64 (T,), the expression every hundredth of a second.
        weakest: Least strength of an expression.
    """
    num = len(labels)
    cues = follow(rng, labels, PROTOTYPES, CONTROL, weakest=weakest, noise=0)
    cues += wander(rng, num, CONTROL, 0.5, len(CUES)) * [0.6, 0.3, 0.25, 1.0, 0.6, 0.01, 0.03, 0.01]
    pitch, melody, rate, loudness, brightness, breath, tremor, formants = cues.T
    syllable, accent, vowel = _rhythm(rng, rate.clip(1.5))

    seconds = np.arange(num) / CONTROL
    tract, base = rng.uniform(0.9, 1.12), rng.uniform(105, 200)
    shake = tremor.clip(0) * np.sin(2 * np.pi * 6 * seconds)
    f0 = base * 2 ** ((pitch + melody * accent + shake + 0.3 * wander(rng, num, CONTROL, 0.2)[:, 0]) / 12)
    peaks = _smooth(_VOWELS[vowel] * tract * (1 + formants[:, None]))
    amplitude = 0.05 * 10 ** ((loudness + rng.normal(0, 1.5)) / 20) * syllable

    def at_rate(track: Track) -> Track:
        return np.interp(np.arange(num * RATE // CONTROL) / RATE, seconds, track)

    phase = 2 * np.pi * np.cumsum(at_rate(f0)) / RATE
    voiced = np.zeros_like(phase)
    for k in range(1, _HARMONICS + 1):
        frequency = k * f0
        response = (1 / (1 + ((frequency[:, None] - peaks) / _BANDWIDTH) ** 2) * [1.0, 0.6, 0.35]).sum(
            1
        ) + 0.02
        tilt = 10 ** ((brightness - 7) * np.log2(frequency / 200) / 20)
        voiced += at_rate(amplitude * response * tilt) * np.sin(k * phase)
    hiss = np.diff(rng.standard_normal(len(phase)), prepend=0.0)
    sound = voiced + at_rate(amplitude * breath.clip(0)) * hiss

    level = 10 ** (rng.uniform(-62, -48) / 20)
    background = level * (
        rng.standard_normal(len(phase)) + 0.7 * np.sin(2 * np.pi * 50 * np.arange(len(phase)) / RATE)
    )
    return Voice(np.clip(sound + background, -1, 1).astype(np.float32), syllable)


def _rhythm(rng: np.random.Generator, rate: Track) -> tuple[Track, Track, NDArray[np.int64]]:
    """Draw bursts of syllables with pauses between.

    Args:
        rng: Source of chance.
        rate: (T,) syllables a second.

    Returns:
        Loudness (T,) from 0 to 1, accent (T,) about -1 to 1, and which vowel (T,).
    """
    num = len(rate)
    loudness, accent, vowel = np.zeros(num), np.zeros(num), np.zeros(num, np.int64)
    now = int(rng.integers(0, 20))
    while now < num:
        burst_end = now + CONTROL * rng.uniform(0.9, 2.2)
        while now < min(burst_end, num):
            length = max(8, round(CONTROL / rate[now] * rng.uniform(0.8, 1.2)))
            span = slice(now, min(now + length, num))
            wave = np.sin(np.pi * (np.arange(length) + 0.5) / length)[: span.stop - now]
            loudness[span] = rng.uniform(0.6, 1) * np.sqrt(wave)
            accent[span] = rng.uniform(-1, 1) * wave
            vowel[now:] = rng.integers(len(_VOWELS))
            now += length
        pause = rng.uniform(0.5, 1.0) if rng.random() < 0.15 else rng.uniform(0.1, 0.3)
        now += round(CONTROL * pause)
    return loudness, accent, vowel


def _smooth(tracks: Track, width: int = 7) -> Track:
    """Run a moving average over (T, D): formants glide."""
    padded = np.pad(tracks, ((width // 2,) * 2, (0, 0)), mode="edge")
    return np.stack([np.convolve(c, np.ones(width) / width, mode="valid") for c in padded.T], axis=1)
