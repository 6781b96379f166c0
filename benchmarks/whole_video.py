"""Whole-video inference against its plain rivals; commands of `benchmarks/inference.py`."""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import cv2
import numpy as np
import torch
from large_encoders import BEIT_LARGE
from machine import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor

from abaw import ExpressionModule, predict_video
from abaw.encoders import ConvVisualEncoder, HFVisualEncoder, LogMelEncoder
from abaw.engine import VideoAssembler, WindowVoter
from abaw.fusion import DualBranchTransformer
from abaw.postprocess import SoftVoting, window_starts

CLASSES = 8
# A BEiT that a CPU runs in minutes; the head's share of the work is larger beside it than beside BEiT-large.
BEIT_BASE = BEIT_LARGE | {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


# Each frame once, against each window on its own.


@torch.inference_mode()
def each_window(model: ExpressionModule, video: Tensor, mask: Tensor, window: int, stride: int) -> Tensor:
    """What public code does: crops of every window through the encoder, the head, and a vote."""
    voting = SoftVoting(len(video), CLASSES, window, device=video.device)
    nothing = torch.zeros(1, window, dtype=torch.bool, device=video.device)
    for start in window_starts(len(video), window, stride):
        part = slice(int(start), int(start) + window)
        visual = model.visual_encoder(video[None, part], mask[None, part])
        clock = (torch.arange(window, device=video.device) / 25)[None]
        logits = model.fusion(
            visual, nothing[..., None].float(), mask[None, part], nothing, time=clock, frame_mask=~nothing
        )
        voting.add(logits, start[None].to(video.device))
    return voting.finish()[0]


@torch.inference_mode()
def each_frame_once(model: ExpressionModule, chunks: list[dict], window: int, stride: int) -> Tensor:
    assembler = VideoAssembler()
    for batch in chunks:
        for video in assembler.add(model.encode(batch), batch):
            return WindowVoter(window, stride).vote(model.fusion, video, CLASSES)[0]
    (video,) = assembler.flush()
    return WindowVoter(window, stride).vote(model.fusion, video, CLASSES)[0]


def overlap(given: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    config = {"base": BEIT_BASE, "large": BEIT_LARGE}[given.encoder]
    encoder = HFVisualEncoder(pretrained=False, config_overrides=config)
    model = ExpressionModule(encoder, None, DualBranchTransformer(encoder.out_features, 1, CLASSES))
    model = model.to(device).eval()
    n, window = given.frames, given.window
    video = torch.randint(0, 256, (n, 3, 112, 112), dtype=torch.uint8, device=device)
    mask = torch.ones(n, dtype=torch.bool, device=device)
    chunks = []
    for first in range(0, n, window):
        frame = torch.arange(first, first + window)
        exists = (frame < n).to(device)
        crops = torch.zeros(window, 3, 112, 112, dtype=torch.uint8, device=device)
        crops[exists] = video[first : first + window]
        clock = (torch.arange(window, device=device) / 25)[None]
        chunks.append(
            {
                "video": crops[None],
                "video_mask": exists[None],
                "audio_mask": torch.zeros_like(exists)[None],
                "time": clock,
                "target": torch.full((1, window), -1, device=device),
                "frame": torch.where(exists, frame.to(device), -1)[None],
                "video_id": ["video"],
                "audio_start": [first / 25],
                "num_frames": [n],
            }
        )
    table = Table(title=f"each frame once against each window on its own: BEiT-{given.encoder}, {machine()}")
    for column in (
        "overlap",
        "stride",
        "each window",
        "each frame once",
        "speed-up",
        "ideal",
        "share of it",
        "window / stride",
        "difference",
    ):
        table.add_column(column, justify="right")
    for share in (0.5, 0.75, 0.9):
        stride = round(window * (1 - share))
        seconds: dict[str, list[float]] = {"windows": [], "once": []}
        each_frame_once(model, chunks[:1], window, stride)  # what PyTorch does once
        for _ in range(given.repeats):
            begin = clock_of(device)
            apart = each_window(model, video, mask, window, stride)
            seconds["windows"].append(clock_of(device) - begin)
            begin = clock_of(device)
            once = each_frame_once(model, chunks, window, stride)
            seconds["once"].append(clock_of(device) - begin)
        slow, fast = median(seconds["windows"]), median(seconds["once"])
        # What encoding alone would give: the windows' frames over the video's.
        ideal = len(window_starts(n, window, stride)) * window / n
        table.add_row(
            f"{share:.0%}", str(stride), f"{slow:.2f} s", f"{fast:.2f} s", f"{slow / fast:.2f}",
            f"{ideal:.2f}", f"{slow / fast / ideal:.2f}", f"{window / stride:.2f}",
            f"{float((apart - once).abs().max()):.1e}",
        )  # fmt: skip
    Console(width=120).print(table)


def clock_of(device: torch.device) -> float:
    """Seconds: of this process on a CPU, which others may be using too; of the wall on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


# Memory over length.


def write_clip(path: Path, seconds: int, size: int = 64, rate: int = 25) -> None:
    """A video with sound, written as a stream."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (50, size, size, 3), dtype=np.uint8)
    tone = (0.3 * np.sin(np.arange(16000) * 0.2)).astype(np.float32)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=Fraction(rate))
        picture.width = picture.height = size
        picture.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for second in range(seconds):
            for place in range(rate):
                image = cv2.blur(pictures[(second * rate + place) % len(pictures)], (9, 9))
                container.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, second * 16000
            container.mux(sound.encode(frame))
        container.mux(picture.encode(None))
        container.mux(sound.encode(None))


def memory_of(clip: Path) -> dict[str, float]:
    """Peak memory of this process for one clip; to be run in a process of its own."""
    warnings.simplefilter("ignore")
    visual, audio = ConvVisualEncoder(out_features=32, width=8), LogMelEncoder(out_features=32)
    model = ExpressionModule(visual, audio, DualBranchTransformer(32, 32, CLASSES, dim=32))
    prediction = predict_video(model, clip, image_size=64)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    n = len(prediction.labels)
    kept = n * (4 * (32 + 32) + 2 + 8 + 8) + n * (
        4 * CLASSES * 2 + 1
    )  # features, masks, time, target; scores, sums
    return {"frames": n, "peak": peak, "kept": kept / 2**20}


def memory(given: argparse.Namespace) -> None:
    table = Table(title=f"peak memory over length, {machine()}")
    for column in ("length", "frames", "peak", "features and scores", "the rest", "ratio"):
        table.add_column(column, justify="right")
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for minutes in given.minutes:
            clip = Path(folder) / f"{minutes}.mp4"
            write_clip(clip, 60 * minutes)
            command = [sys.executable, __file__, str(clip)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            figures = json.loads(said.splitlines()[-1])
            rest = figures["peak"] - figures["kept"]
            first = first or rest
            table.add_row(
                f"{minutes} min", f"{figures['frames']}", f"{figures['peak']:.0f} MiB",
                f"{figures['kept']:.1f} MiB", f"{rest:.0f} MiB", f"{rest / first:.3f}",
            )  # fmt: skip
    Console(width=120).print(table)
    for name, size in {"quickstart": 192 + 128, "BEiT-large + WavLM-large": 2048}.items():
        print(f"{name}: features of an hour at 30 fps take {108_000 * 4 * size / 2**20:.0f} MiB in float32")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``overlap`` and ``memory`` to a command line."""
    shape = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}
    one = commands.add_parser("overlap", help="each frame encoded once, or with each window", **shape)
    one.set_defaults(run=overlap)
    one.add_argument("--encoder", choices=["base", "large"], default="base", help="size of the BEiT")
    one.add_argument("--frames", type=int, default=100, help="of the video")
    one.add_argument("--window", type=int, default=20, help="frames of a window")
    one.add_argument("--repeats", type=int, default=3, help="runs of each rival")
    two = commands.add_parser("memory", help="peak memory over length", **shape)
    two.set_defaults(run=memory)
    two.add_argument("--minutes", type=int, nargs="+", default=[1, 60], help="lengths of the videos")


if __name__ == "__main__":  # in a process of its own, for its memory
    print(json.dumps(memory_of(Path(sys.argv[1]))))
