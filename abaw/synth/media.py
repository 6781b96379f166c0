"""Video files as they come: any frame rate, several containers, tracks that start late or end early."""

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import av
import numpy as np
from av.codec.context import Flags
from numpy.typing import NDArray

from abaw.synth.faces import Image
from abaw.synth.voices import RATE, Sound

Packets: TypeAlias = "list[av.Packet[Any]]"

SCENE: Final = (120, 160)
"""Height and width of the pictures."""


@dataclass(frozen=True)
class Format:
    """How a recording is stored, and how its two tracks lie to each other. All times in seconds."""

    suffix: str = ".mp4"
    sound_codec: str | None = "aac"
    """``None``: no audio track."""
    sample_rate: int = 48000
    layout: str = "mono"
    picture_start: float = 0.0
    """When the first frame is shown, rounded to whole frames."""
    sound_start: float = 0.0
    """When the audio track begins."""
    sound_excess: float = 0.0
    """How much longer than the picture the sound is; negative where it is shorter."""
    variable: bool = False
    """Some frames are shown for twice as long."""

    def ticks(self, num_frames: int, fps: Fraction) -> NDArray[np.int64]:
        """Return when each frame is shown, int64 (N,), in units of ``1 / fps``."""
        step = np.ones(num_frames, np.int64)
        if self.variable:
            step[5::7] = 2
        step[0] = round(self.picture_start * fps)
        return np.cumsum(step)


def write_video(
    path: Path, pictures: Iterable[Image], ticks: NDArray[np.int64], fps: Fraction, sound: Sound, form: Format
) -> None:
    """Encode a recording. Equal input gives equal bytes.

    Args:
        path: File to write.
        pictures: uint8 (120, 160, 3) RGB, one for each of ``ticks``.
        ticks: int64 (N,), when each picture is shown, in units of ``1 / fps``.
        fps: Units of time in a second.
        sound: float32 (S,) at 16 kHz, mono, from ``form.sound_start`` on.
        form: Container and tracks.
    """
    mp4 = form.suffix == ".mp4"
    with av.open(path, "w", container_options={"fflags": "+bitexact"}) as container:
        picture = container.add_stream("libx264" if mp4 else "mpeg4", rate=fps)
        picture.height, picture.width = SCENE
        picture.pix_fmt = "yuv420p"
        picture.time_base = picture.codec_context.time_base = 1 / fps
        if mp4:
            picture.options = {"preset": "ultrafast", "crf": "26"}
        else:
            picture.bit_rate = 400_000
        tracks = [_encode_pictures(picture, pictures, ticks, fps)]
        if form.sound_codec is not None:
            stream = container.add_stream(form.sound_codec, rate=form.sample_rate, layout=form.layout)
            tracks.append(_encode_sound(cast(av.AudioStream, stream), sound, form.sound_start))
        for any_stream in container.streams:
            any_stream.codec_context.flags |= Flags.bitexact
            any_stream.codec_context.thread_count = 1
        # Sound and picture in turn, as players expect them.
        for _, packets in heapq.merge(*tracks, key=itemgetter(0)):
            container.mux(packets)


def _encode_pictures(
    stream: av.VideoStream, pictures: Iterable[Image], ticks: NDArray[np.int64], fps: Fraction
) -> Iterator[tuple[float, Packets]]:
    for picture, tick in zip(pictures, ticks.tolist(), strict=True):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = tick, 1 / fps
        yield float(tick / fps), stream.encode(frame)
    yield math.inf, stream.encode(None)


def _encode_sound(stream: av.AudioStream, sound: Sound, start: float) -> Iterator[tuple[float, Packets]]:
    first, size = round(start * RATE), RATE // 4
    for offset in range(0, len(sound), size):
        block = sound[None, offset : offset + size]
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, first + offset, Fraction(1, RATE)
        yield (first + offset) / RATE, stream.encode(frame)
    yield math.inf, stream.encode(None)
