"""What the other parts work on, written once: networks, a corpus, videos with their crops."""

from pathlib import Path

import cv2
import numpy as np
from large_encoders import AUDIO, BEIT_LARGE, TINY_BEIT, TINY_WAVLM, VISUAL, WAVLM_LARGE, write_checkpoint
from whole_video import write_clip

from abaw.synth import write_corpus
from gpu.report import Report, Sizes

CORPUS = "corpus"
RATE = 25
"""Frames a second of the clips."""


def clip_seconds(small: bool) -> dict[str, int]:
    """The videos by name, and how long they are."""
    return {"4 s": 4, "12 s": 12} if small else {"1 min": 60, "10 min": 600}


def write_crops(folder: Path, count: int) -> None:
    """As many jpgs of 112 x 112 as a video has frames, of 50 pictures that take turns."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    pictures = [
        cv2.imencode(".jpg", cv2.blur(generator.integers(0, 256, (112, 112, 3), dtype=np.uint8), (9, 9)))[1]
        for _ in range(50)
    ]
    for number in range(count):
        (folder / f"{number + 1:05d}.jpg").write_bytes(pictures[number % len(pictures)].tobytes())


def measure(report: Report, sizes: Sizes) -> None:
    small = sizes.small
    with report.guard("corpus"):  # first: the quickstart waits for it
        videos, frames = (16, 60) if small else (40, 300)
        write_corpus(CORPUS, videos, frames, progress=False)
    with report.guard("networks"):
        write_checkpoint(Path(VISUAL), TINY_BEIT if small else BEIT_LARGE)
        write_checkpoint(Path(AUDIO), TINY_WAVLM if small else WAVLM_LARGE)
    for name, seconds in clip_seconds(small).items():
        with report.guard(f"video of {name}"):
            write_clip(Path(f"{name}.mp4"), seconds, size=112, rate=RATE)
            write_crops(Path(name), RATE * seconds)
