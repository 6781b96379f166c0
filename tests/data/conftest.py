"""Tiny corpora in Aff-Wild2's layout, written with OpenCV and PyAV."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"


def write_media(
    path: Path,
    num_frames: int = 30,
    rate: Fraction | int = 25,
    sound: np.ndarray | None = None,
    sound_rate: int = 16_000,
    sound_start: float = 0.0,
    video_start: float = 0.0,
    hole: tuple[float, float] | None = None,
    stereo: bool = False,
) -> None:
    """Write a video whose picture i is grey of value 3 i, with a mono float sound in -1…1.

    Args:
        hole: (begin, length): sound from ``begin`` on is shifted by ``length`` seconds, by its timestamps alone.
    """
    audio_codec = {".avi": "pcm_s16le", ".mpg": "mp2"}.get(path.suffix, "aac")
    video_codec = {".mpg": "mpeg1video"}.get(path.suffix, "mpeg4")
    with av.open(str(path), "w") as container:
        video = container.add_stream(video_codec, rate=Fraction(rate))
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = 1 / Fraction(rate)
        audio = None
        if sound is not None:
            audio = container.add_stream(audio_codec, rate=sound_rate)
            audio.layout = "stereo" if stereo else "mono"
        for index in range(num_frames):
            picture = np.full((48, 64, 3), (3 * index) % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = 1 / Fraction(rate)
            frame.pts = index + round(video_start * Fraction(rate))
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _write_sound(container, audio, sound, sound_rate, sound_start, hole, stereo)


def _write_sound(container, audio, sound, rate, start, hole, stereo) -> None:
    samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)[None, :]
    resampler = av.AudioResampler(format=audio.codec_context.format, layout=audio.layout, rate=rate)
    for first in range(0, samples.shape[1], 1024):
        block = samples[:, first : first + 1024]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="s16p", layout="mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = first + round(start * rate)
        if hole is not None and first >= hole[0] * rate:
            frame.pts += round(hole[1] * rate)
        for converted in resampler.resample(frame):
            container.mux(audio.encode(converted))
    container.mux(audio.encode(None))


def clicks(seconds: float, times: Sequence[float], rate: int = 16_000) -> np.ndarray:
    """Silence with bursts of a 2 kHz tone, 4 ms each, beginning at ``times``."""
    sound = np.zeros(round(seconds * rate))
    burst = np.sin(2 * np.pi * 2000 * np.arange(round(0.004 * rate)) / rate)
    for time in times:
        sound[round(time * rate) :][: len(burst)] += burst
    return sound


@dataclass
class Corpus:
    """Writes a corpus piece by piece."""

    root: Path
    annotations: str = "EXPR_Recognition_Challenge"
    labels: dict[str, list[int]] = field(default_factory=dict)

    def add(
        self,
        video_id: str,
        labels: Sequence[int],
        split: str = "Train_Set",
        missing: Sequence[int] = (),
        crops: str = "cropped_aligned",
        raw: str | None = None,
        **media,
    ) -> None:
        """Add a video; ``missing`` are frames without a crop, ``raw`` its file or "" for none."""
        folder = self.root / self.annotations / split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{video_id}.txt").write_text("\n".join([HEADER, *map(str, labels)]) + "\n")
        self.labels[video_id] = list(labels)
        self.add_crops(video_id, [i for i in range(len(labels)) if i not in missing], crops)
        if raw != "":
            self.add_raw(raw or f"batch1/{video_id}.mp4", **{"num_frames": len(labels)} | media)

    def add_crops(self, video_id: str, frames: Sequence[int], crops: str = "cropped_aligned") -> None:
        folder = self.root / crops / video_id
        folder.mkdir(parents=True, exist_ok=True)
        for frame in frames:
            # The left half is as bright as the frame's number says, the right half dark.
            picture = np.zeros((112, 112, 3), np.uint8)
            picture[:, :56] = shade(frame)
            cv2.imwrite(str(folder / f"{frame + 1:05d}.jpg"), picture)

    def add_raw(self, raw: str, **media) -> None:
        path = self.root / raw
        path.parent.mkdir(parents=True, exist_ok=True)
        if "sound" not in media:
            seconds = media["num_frames"] / media.get("rate", 25)
            media["sound"] = 0.3 * np.sin(np.arange(round(seconds * 16_000)) * 0.2)
        write_media(path, **media)


def shade(frame: int) -> int:
    """How bright the crop of a frame is."""
    return 40 + 4 * frame % 200


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """An empty corpus."""
    return Corpus(tmp_path / "corpus")


@pytest.fixture
def small_corpus(corpus: Corpus) -> Corpus:
    """Three training videos, two of them persons of one raw video, and two to validate on."""
    corpus.add("a", [0, 1, 2, 3, 4] * 8, missing=[3, 4])
    corpus.add("b_left", [1] * 30 + [-1] * 5, raw="batch2/b.mp4")
    corpus.add("b_right", [2] * 35, raw="")
    corpus.add("c", [5, 6, 7] * 9, split="Validation_Set", crops="cropped_aligned_new_50_vids")
    corpus.add("d", [0] * 50, split="Validation_Set", raw="new_vids/d.avi")
    return corpus


@pytest.fixture
def media() -> Callable[..., None]:
    """`write_media`."""
    return write_media
