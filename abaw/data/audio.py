"""The sound of raw videos: decoded once to a 16 kHz mono WAV file, read by memory-mapped slices.

Everything is on the container's own clock: pictures and sound keep the distance that the file gives them, a
late start or a hole in the track included.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from abaw.data.packets import Shifts, Survey, decode, demux, open_media, survey, unreadable
from abaw.errors import InputError
from abaw.files import replacing
from abaw.fingerprint import file_fingerprint
from abaw.tensor_file import write_tensors

SAMPLE_RATE: Final = 16_000
"""Samples a second of every sound in this library."""

_VERSION: Final = "4"
_LONGEST_NAME: Final = 48  # characters of a video's name in the cache's, which has room for 255 bytes
_WAV_HEADER: Final = 44  # bytes, as the standard library writes it
# Timestamps are rounded to the container's clock and jitter by some milliseconds; a hole is larger.
_LARGEST_JITTER: Final = 0.02


@dataclass(frozen=True, eq=False)
class SoundTrack:
    """The sound of one raw video, on disk, and when its pictures are shown.

    Attributes:
        path: The WAV file that holds the samples.
        start: Seconds on the container's clock; sample j is at ``start + j / SAMPLE_RATE``.
        spans: int64 (K, 2), first sample and the one after the last of each stretch that the track covers; K
            is 1 for a track without holes and 0 for no track.
        picture_times: float64 (N,), seconds on the container's clock, ascending.
    """

    path: Path
    start: float
    spans: NDArray[np.int64]
    picture_times: NDArray[np.float64]

    @property
    def is_silent(self) -> bool:
        """Whether there is no sound at all: the file has no track."""
        return len(self.spans) == 0

    def covers(self, times: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the track covers these moments, bool (T,); ``times`` is float64 (T,), seconds."""
        samples = np.rint((times - self.start) * SAMPLE_RATE)
        inside = (self.spans[:, :1] <= samples) & (samples < self.spans[:, 1:])
        return np.asarray(inside.any(axis=0))

    def read(self, first: int, count: int) -> NDArray[np.int16]:
        """Read ``count`` samples from ``first`` on, int16 (count,), zeros where the track has nothing."""
        clip = np.zeros(count, dtype=np.int16)
        begin, end = max(first, 0), min(first + count, int(self.spans.max(initial=0)))
        if begin < end:
            clip[begin - first : end - first] = np.memmap(
                self.path, dtype="<i2", mode="r", offset=_WAV_HEADER + 2 * begin, shape=(end - begin,)
            )
        return clip

    def stretches(self, first: int, count: int) -> list[slice]:
        """Where the track has something in what ``read(first, count)`` returns."""
        return [
            slice(max(int(begin) - first, 0), int(end) - first)
            for begin, end in self.spans
            if begin < first + count and end > first
        ]


def cache_path(source: Path, name: str, cache_dir: Path) -> Path:
    """Where the sound of a raw video is cached: no other video, nor this one as it was before, has the name.

    Raises:
        InputError: The video can't be read.
    """
    try:
        identity = json.dumps(_fingerprint(source), sort_keys=True)
    except OSError as error:
        raise unreadable(source, error) from error
    digest = hashlib.sha256(identity.encode()).hexdigest()
    readable = re.sub("[\ud800-\udfff]", "_", name[:_LONGEST_NAME])  # safetensors opens no name but UTF-8
    return cache_dir / f"{readable}-{digest[:16]}.safetensors"


def open_sound(source: Path, cache: Path) -> SoundTrack | None:
    """Open what `cache_sound` wrote; None if it is missing, broken, or not of ``source`` as it is now.

    Args:
        source: The raw video.
        cache: The safetensors file, beside which the WAV file lies.
    """
    try:
        with safe_open(cache, framework="numpy") as file:
            metadata = file.metadata() or {}
            if any(metadata.get(key) != value for key, value in _fingerprint(source).items()):
                return None
            spans, picture_times = file.get_tensor("spans"), file.get_tensor("picture_times")
        track = SoundTrack(_wav(cache), float(metadata["start"]), spans, picture_times)
        # A crash of the machine can leave zeros where the sound was.
        whole = _WAV_HEADER + 2 * int(spans.max(initial=0))
        if track.path.stat().st_size != whole or _check(track.path) != metadata["check"]:
            return None
        return track
    except (OSError, SafetensorError, KeyError):
        return None


def cache_sound(source: Path, cache: Path, voice_alone: bool = False) -> SoundTrack:
    """Decode the sound and the timestamps of a raw video, in a memory that doesn't grow with its length.

    Args:
        source: The raw video.
        cache: The safetensors file to write, timestamps and all; a WAV file of the same name holds the sound.
            Both are written by a temporary name in the same folder.
        voice_alone: Whether a file without a picture will do, which then has no picture's time.

    Raises:
        InputError: The video can't be read, or holds no picture and, if that will do, no sound either.
        OSError: The cache can't be written.
    """
    try:
        metadata = _fingerprint(source)
    except OSError as error:
        raise unreadable(source, error) from error
    found = survey(source, voice_alone)
    with replacing(_wav(cache)) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        sound = _Sound(file)
        broken = _decode(source, sound, found.shifts)
        if not len(found.picture_times) and not sound.spans:
            raise InputError(f"{source}: holds neither a picture nor sound; get the file again.")
    _warn(source, found, broken)
    spans = np.array(sound.spans, dtype=np.int64).reshape(-1, 2)
    made = {"start": repr(sound.start), "check": _check(_wav(cache))}
    write_tensors(cache, {"spans": spans, "picture_times": found.picture_times}, metadata | made)
    return SoundTrack(_wav(cache), sound.start, spans, found.picture_times)


def _wav(cache: Path) -> Path:
    return cache.with_name(f"{cache.stem}.wav")


def _fingerprint(source: Path) -> dict[str, str]:
    """What tells a raw video from every other, and from itself before it was replaced."""
    return {
        "version": _VERSION,
        "source": ascii(source.name),  # a name need not be UTF-8
        "mtime_ns": str(source.stat().st_mtime_ns),
        "content": file_fingerprint(source),
    }


def _check(wav: Path) -> str:
    return file_fingerprint(wav, pieces=8, piece=4096)


def _resampler() -> av.AudioResampler:
    return av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)


class _Sound:
    """Writes decoded sound frames at the places that their timestamps give them."""

    def __init__(self, file: wave.Wave_write) -> None:
        self._file = file
        self.spans: list[list[int]] = []
        self.start = 0.0
        self._resampler = _resampler()
        self._kind: tuple[str, str, int] | None = None  # what the resampler takes
        self._expected = 0.0  # when the next frame begins if there is no hole
        self._overlap = 0  # samples to cut from what comes next

    def add(self, frame: av.AudioFrame) -> None:
        time = self._expected if frame.time is None else frame.time
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind or abs(time - self._expected) > _LARGEST_JITTER:
            self._begin(time)
            self._kind = kind
        self._expected += frame.samples / frame.sample_rate
        self._append(self._resampler.resample(frame))

    def finish(self) -> None:
        if self._kind is not None:
            self._append(self._resampler.resample(None))

    def _begin(self, time: float) -> None:
        self.finish()
        if not self.spans:
            self.start = time
        self._resampler = _resampler()
        self._expected = time
        end = self.spans[-1][1] if self.spans else 0
        first = round((time - self.start) * SAMPLE_RATE)
        self._write(np.zeros(max(first - end, 0), np.int16))
        self._overlap = max(end - first, 0)
        self.spans.append([max(first, end)] * 2)

    def _append(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            # Sound whose timestamps go back is cut, so that what follows stays in place.
            samples = frame.to_ndarray()[0, self._overlap :].astype(np.int16, copy=False)
            self._overlap -= min(self._overlap, frame.samples)
            self._write(samples)
            self.spans[-1][1] += len(samples)

    def _write(self, samples: NDArray[np.int16]) -> None:
        self._file.writeframesraw(samples.astype("<i2", copy=False).tobytes())


def _decode(source: Path, sound: _Sound, shifts: Shifts) -> int:
    """Decode a video's sound into ``sound``, and say how many packets are damaged."""
    broken = 0
    with open_media(source) as container:
        for track in container.streams.audio[:1]:
            for packet in demux(container, track, shifts):
                frames = decode(packet)
                broken += frames is None
                for frame in frames or ():
                    sound.add(frame)
    sound.finish()
    return broken


def _warn(source: Path, found: Survey, broken: int) -> None:
    problems = [*found.problems, *([f"{broken} packets of sound can't be decoded"] if broken else [])]
    if problems:
        warnings.warn(f"{source}: is damaged: {', '.join(problems)}; the rest is used.", stacklevel=3)
    if found.joints:
        warnings.warn(
            f"{source}: {found.joints}; pictures and sound go on from where they were.", stacklevel=3
        )
