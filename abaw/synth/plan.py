"""Who appears in which recording, and what is wrong with it: the traps of Aff-Wild2's files."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from abaw.errors import InputError
from abaw.synth.cues import WEAKEST
from abaw.synth.labels import Labels, draw_labels, leave_out
from abaw.synth.media import Format

SPLITS: Final = ("train", "validation", "test")
MIN_VIDEOS, MIN_FRAMES = 8, 40

_FPS = (Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(24), Fraction(15))
_FORMATS = (
    Format(sound_start=0.5),
    Format(".avi", "libmp3lame", 44100, layout="stereo"),
    Format(sound_excess=-1.2),
    Format(picture_start=0.4, sample_rate=44100),
    Format(),
    Format(variable=True),
    Format(layout="stereo", sound_excess=1.5),
    Format(".avi", "pcm_s16le", 44100),
    Format(sample_rate=44100),
)
_MUTE = Format(sound_codec=None)
_NAMES = ("{n}-{fps}-1280x720", "video{n}", "{n}-{fps}-640x480", "video {n}", "{n}-{fps}-1920x1080-1")
_FOLDERS = ("batch1", "batch2", "new_vids")
_PAIRS = (("_left", "_right"), ("", "_right"))
_EXTRA_DECODED = (0, 2, -3, 1, 0, -1, 3)
_EXTRA_CROPS = (0, -4, 2, 0, -1, 1)


@dataclass(frozen=True)
class Person:
    """One face of a recording: what Aff-Wild2 calls a video."""

    name: str
    crops: str
    """Folder of crops that it is in."""
    expressions: Labels
    """int64 (N,), what the face shows."""
    labels: Labels
    """int64 (N,), what the annotation says: -1 where nobody annotated."""
    face: NDArray[np.bool_]
    """(M,), whether there is a crop of each frame; M is not N."""


@dataclass(frozen=True)
class Recording:
    """One raw video with its sound."""

    index: int
    name: str
    split: str
    folder: str
    fps: Fraction
    form: Format
    ticks: NDArray[np.int64]
    """(M,), when each frame is, in units of ``1 / fps``. M is the most of labels, crops and pictures."""
    num_decoded: int
    """How many of them the video file holds."""
    expressions: Labels
    """int64 (N,), what the voice says."""
    persons: tuple[Person, ...] = field(repr=False)
    weakest: float = WEAKEST
    """Least strength of an expression."""


def draw_plan(seed: int, videos: int, frames: int, weakest: float = WEAKEST) -> list[Recording]:
    """Lay out a corpus: a quarter of the videos for validation, 15 % for the test, at least two of each.

    Args:
        seed: Equal seeds give equal plans.
        videos: How many, persons who share a recording counted one by one.
        frames: N, how many labels each has.
        weakest: Least strength of an expression.

    Raises:
        InputError: Too few videos or frames for every class to occur in every split, or ``weakest`` is not
            between 0 and 1.
    """
    if videos < MIN_VIDEOS or frames < MIN_FRAMES:
        raise InputError(
            f"a corpus of {videos} videos of {frames} frames is too small for every expression to occur in "
            f"every part of it: ask for at least --videos {MIN_VIDEOS} --frames {MIN_FRAMES}"
        )
    if not 0 <= weakest <= 1:
        raise InputError(f"--weakest is a share of an expression's full strength, from 0 to 1, not {weakest}")
    rng = np.random.default_rng(seed)
    validation, test = max(2, round(videos / 4)), max(2, round(videos * 0.15))
    train = videos - validation - test
    suffixes = (
        _share(train, min(2, train // 3)),
        _share(validation, min(1, validation // 4)),
        _share(test, min(1, test // 4)),
    )
    numbers = rng.permutation(np.arange(1, 3 * videos + 1)).tolist()

    recordings: list[Recording] = []
    for split, parts in zip(SPLITS, suffixes, strict=True):
        fps = [_FPS[(len(recordings) + i) % len(_FPS)] for i in range(len(parts))]
        drawn = draw_labels(rng, frames, [float(rate) for rate in fps])
        for rate, part, labels in zip(fps, parts, drawn, strict=True):
            index = len(recordings)
            form = _MUTE if index == len(suffixes[0]) - 1 else _FORMATS[index % len(_FORMATS)]
            folder = _FOLDERS[index % len(_FOLDERS)]
            name = _NAMES[index % len(_NAMES)].format(n=numbers[index], fps=round(rate))
            crops = "cropped_aligned_new_50_vids" if folder == "new_vids" else "cropped_aligned"
            persons = tuple(
                _draw_person(rng, name + suffix, crops, labels, float(rate), k, index + k)
                for k, suffix in enumerate(part)
            )
            decoded = frames + _EXTRA_DECODED[index % len(_EXTRA_DECODED)]
            longest = max(frames, decoded, *(len(person.face) for person in persons))
            ticks = form.ticks(longest, rate)
            recordings.append(
                Recording(index, name, split, folder, rate, form, ticks, decoded, labels, persons, weakest)
            )
    return recordings


def _share(videos: int, pairs: int) -> list[tuple[str, ...]]:
    """Return the name suffixes of each recording's persons: the first ``pairs`` recordings hold two."""
    return [*_PAIRS[:pairs], *[("",)] * (videos - 2 * pairs)]


def _draw_person(
    rng: np.random.Generator, name: str, crops: str, labels: Labels, fps: float, place: int, index: int
) -> Person:
    """Draw what is annotated and when the face is seen; a second person feels the same a little later."""
    lag = int(rng.integers(1, 5)) if place else 0
    expressions = np.concatenate([np.repeat(labels[:1], lag), labels[: len(labels) - lag]])
    annotated = leave_out(rng, expressions, 0.25) if index % 3 == 0 else expressions
    face = np.ones(len(labels) + _EXTRA_CROPS[index % len(_EXTRA_CROPS)], np.bool_)
    face[rng.integers(0, len(labels) - 5, 2)] = False
    if index % 2 == 0:
        length = min(round(rng.uniform(0.4, 1.6) * fps), len(labels) // 6)
        start = rng.integers(0, len(labels) - length)
        face[start : start + length] = False
    return Person(name, crops, expressions, annotated, face)
