"""Tiny corpora in Aff-Wild2's layout, written with OpenCV and PyAV."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.stream import Disposition

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
    noise: bool = False,
    options: dict[str, str] | None = None,
    flashes: Sequence[int] | None = None,
) -> None:
    """Write a video whose picture i is grey of value 3 i, or noise, with a mono float sound in -1…1.

    Args:
        flashes: The pictures that are white, where the others are black.
        hole: (begin, length): the timestamps of the sound from ``begin`` on are shifted by ``length`` s.
    """
    audio_codec = {".avi": "pcm_s16le", ".mpg": "mp2"}.get(path.suffix, "aac")
    video_codec = {".mpg": "mpeg1video", ".ts": "libx264"}.get(path.suffix, "mpeg4")
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(video_codec, rate=Fraction(rate))
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = 1 / Fraction(rate)
        video.codec_context.gop_size = 12
        audio = None
        if sound is not None:
            audio = container.add_stream(audio_codec, rate=sound_rate)
            audio.layout = "stereo" if stereo else "mono"
        for index in range(num_frames):
            picture = np.full((48, 64, 3), (3 * index) % 256, np.uint8)
            if flashes is not None:
                picture = np.full_like(picture, 255 * (index in flashes))
            if noise:
                picture = rng.integers(0, 256, picture.shape, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = 1 / Fraction(rate)
            frame.pts = index + round(video_start * Fraction(rate))
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _write_sound(container, audio, sound, sound_rate, sound_start, hole, stereo)


def write_song(path: Path, sound: np.ndarray, cover: bool = False) -> None:
    """Write a mono float sound of 16 kHz in -1…1 without a video, with the picture of a cover or without."""
    codec = {".mp3": "libmp3lame", ".wav": "pcm_s16le", ".flac": "flac"}.get(path.suffix, "aac")
    with av.open(str(path), "w") as container:
        audio = container.add_stream(codec, rate=16_000)
        audio.layout = "mono"
        if cover:
            picture = container.add_stream("mjpeg")
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
            picture.disposition = Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux([*picture.encode(frame), *picture.encode(None)])
        _write_sound(container, audio, sound, 16_000, 0.0, None, stereo=False)


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


def find_clicks(samples: np.ndarray) -> np.ndarray:
    """Where `clicks` begin in 16 kHz samples, by the centre of their energy, in samples."""
    energy = samples.astype(np.float64) ** 2
    level = np.convolve(energy, np.ones(64), "same")
    loud = np.flatnonzero(level > 0.3 * level.max())
    found = []
    for burst in np.split(loud, np.flatnonzero(np.diff(loud) > 800) + 1):
        around = np.arange(max(burst[0] - 200, 0), min(burst[-1] + 200, len(samples)))
        found.append((energy[around] * around).sum() / energy[around].sum() - 0.002 * 16_000)
    return np.array(found)


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


def unpack(corpus: Path, root: Path) -> Path:
    """Lay a corpus out, by hard links, as the organisers' archives unpack: each into a folder of its own."""
    labels = "6th ABAW Annotations/EXPR_Recognition_Challenge"
    places = {"EXPR_Recognition_Challenge": labels}
    for name in ("cropped_aligned", "cropped_aligned_new_50_vids", "batch1", "batch2", "new_vids"):
        places[name] = f"{name}/{name}"
    for name, place in places.items():
        if (corpus / name).is_dir():
            shutil.copytree(corpus / name, root / place, copy_function=os.link)
    others = {"VA_Estimation": "valence,arousal\n0.5,-5\n", "AU_Detection": "AU1,AU2,AU4\n1,0,-1\n"}
    for challenge, text in others.items():
        for path in (root / labels).glob("*/*.txt"):
            other = root / f"6th ABAW Annotations/{challenge}_Challenge" / path.parent.name / path.name
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_text(text)
    lists = root / "names_of_videos_in_each_test_set"
    formats = root / "prediction_files_format"
    for folder in (lists, formats, root / "__MACOSX/cropped_aligned", root / "@eaDir/batch1"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".DS_Store").write_bytes(b"?")
    (root / "__MACOSX/cropped_aligned/._00001.jpg").write_bytes(b"?")
    for path in corpus.glob("*test_set_release.txt"):
        os.link(path, lists / "Expression_Recognition_Challenge_test_set_release.txt")
    for path in corpus.glob("*test_set_sample.txt"):
        os.link(path, formats / "CVPR_6th_ABAW_Expr_test_set_sample.txt")
    for challenge in ("VA_Estimation", "Action_Unit_Detection"):
        (lists / f"{challenge}_Challenge_test_set_release.txt").write_text("elsewhere\n")
    headers = {"AU": "AU1,AU2,AU4", "VA": "valence,arousal"}
    for challenge, header in headers.items():
        text = f"image_location,{header}\nelsewhere/00001.jpg,0,0\n"
        (formats / f"CVPR_6th_ABAW_{challenge}_test_set_sample.txt").write_text(text)
    return root


def shade(frame: int) -> int:
    """How bright the crop of a frame is."""
    return 40 + 4 * frame % 200
