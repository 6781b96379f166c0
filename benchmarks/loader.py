"""Frames a second of the loaders: features, and raw folders beside a plain dataset over the jpgs.

    python benchmarks/loader.py

Writes a synthetic corpus into a temporary folder, and features of random numbers beside it. The peer is what
one writes first: a map-style dataset that opens the jpgs of a window with Pillow and stacks them; it reads no
sound. All loaders use one worker unless told otherwise, take turns, and have read every file before they are
timed: what is measured is the library, not the disk. Batches hold 8 windows of pictures, or 32 of features.
With ``--quickstart`` also times an epoch of training the quickstart's head on features.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from machine import machine
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from abaw.cli import main
from abaw.data import AffWild2DataModule, FeatureDataModule
from abaw.data.base import WindowDataModule
from abaw.data.crops import crop_name
from abaw.data.features import FeatureHeader, write_features, write_index


class PillowWindows(Dataset):
    """Windows of face crops and labels, one after the other."""

    def __init__(self, data: AffWild2DataModule, window: int, image_size: int) -> None:
        self.image_size = image_size
        train = [v.video_id for v in data.videos if v.split == "train"]
        videos = [(v, t) for v, t in zip(data.videos, data.targets, strict=True) if v.video_id in train]
        self.windows = [
            (video.crops, target, first)
            for video, target in videos
            for first in range(0, len(target) - window + 1, window)
        ]
        self.window = window

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        folder, target, first = self.windows[index]
        frames = range(first, first + self.window)
        pictures = torch.stack([self.read(folder / crop_name(frame)) for frame in frames])
        return pictures, torch.from_numpy(target[first : first + self.window])

    def read(self, path: Path) -> torch.Tensor:
        if not path.exists():
            return torch.zeros(3, self.image_size, self.image_size, dtype=torch.uint8)
        with Image.open(path) as picture:
            rgb = picture.convert("RGB")
            if rgb.size != (self.image_size, self.image_size):
                rgb = rgb.resize((self.image_size, self.image_size))
            return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def write_random_features(data: AffWild2DataModule, folder: Path, size: int, dtype: torch.dtype) -> None:
    """Features of the corpus's videos, each forty times as long: an epoch takes more than a blink."""
    generator = torch.Generator().manual_seed(0)
    for video, labels in zip(data.videos, data.targets, strict=True):
        target = torch.from_numpy(np.tile(labels, 40))
        count = len(target)
        header = FeatureHeader(
            video_id=video.video_id,
            raw_id=video.raw_id,
            split=video.split,
            class_names=list(data.class_names),
            num_frames=count,
            lead=0.5,
            encoders={},
            settings={},
        )
        tensors = {
            "visual": torch.randn(count, size, generator=generator).to(dtype),
            "audio": torch.randn(count, size, generator=generator).to(dtype),
            "video_mask": torch.ones(count, dtype=torch.bool),
            "audio_mask": torch.ones(count, dtype=torch.bool),
            "target": target,
            "time": torch.arange(count, dtype=torch.float64) / 30,
        }
        write_features(folder / f"{video.video_id}.safetensors", header, tensors)
    write_index(folder, [video.video_id for video in data.videos])


def windows(data: WindowDataModule) -> Callable[[], Iterable[int]]:
    """The frames of each training batch, epoch after epoch, padding left out."""
    data.setup()
    loader = data.train_dataloader()

    def read() -> Iterable[int]:
        for batch in loader:
            yield int((batch["frame"] >= 0).sum())

    return read


def rate(read: Callable[[], Iterable[int]], seconds: float) -> float:
    """Frames a second over whole epochs, for at least some seconds; the workers' start is left out."""
    frames = spent = 0.0
    while spent < seconds:
        batches = iter(read())
        next(batches)
        begin = time.perf_counter()
        frames += sum(batches)
        spent += time.perf_counter() - begin
    return frames / spent


def train_head(corpus: Path, folder: Path) -> None:
    """Train the quickstart's head on features of its own encoders, as their first weights are."""
    config = f"--config={Path(__file__).parents[1] / 'examples' / 'quickstart.yaml'}"
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    out, run = folder / "quickstart", f"--trainer.default_root_dir={folder / 'run'}"
    assert main(["extract", config, f"--data.root={corpus}", *quiet, str(out)]) == 0
    features = ["--data=FeatureDataModule", f"--data.root={out}"]
    slots = ["--model.visual_encoder=PrecomputedEncoder", "--model.audio_encoder=PrecomputedEncoder"]
    seconds = []
    for epochs in (1, 6):
        options = [
            f"--trainer.max_epochs={epochs}",
            "--trainer.limit_val_batches=0",
            f"--trainer.default_root_dir={run}",
        ]
        begin = time.perf_counter()
        assert main(["fit", config, *features, *slots, *quiet, *options, run]) == 0
        seconds.append(time.perf_counter() - begin)
    print(f"training the quickstart's head on features: {(seconds[1] - seconds[0]) / 5:.2f} s an epoch")


def measure() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=16, help="of the corpus (default: 16)")
    parser.add_argument("--frames", type=int, default=300, help="of each video (default: 300)")
    parser.add_argument("--window", type=int, default=64, help="frames of a window (default: 64)")
    parser.add_argument("--workers", type=int, default=1, help="of each loader (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each loader (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn (default: 1)")
    parser.add_argument("--quickstart", action="store_true", help="also train the quickstart's head")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        assert main(["synth", str(corpus), f"--videos={given.videos}", f"--frames={given.frames}"]) == 0
        common = {"window": given.window, "num_workers": given.workers}
        raw = AffWild2DataModule(corpus, batch_size=8, **common)
        raw.setup()
        plain = DataLoader(
            PillowWindows(raw, given.window, raw.image_size),
            batch_size=8,
            shuffle=True,
            num_workers=given.workers,
            persistent_workers=given.workers > 0,
        )
        peer = "jpgs with Pillow, map-style, no sound"
        loaders = {
            peer: lambda: (batch[1].numel() for batch in plain),
            "raw folders: jpgs and sound": windows(raw),
        }
        for size, dtype in ((128, torch.float32), (1024, torch.float16), (1024, torch.float32)):
            out = folder / f"{size}-{dtype}"
            write_random_features(raw, out, size, dtype)
            title = f"features: 2 × {size}, {str(dtype).removeprefix('torch.')}"
            loaders[title] = windows(FeatureDataModule(out, batch_size=32, **common))
        for read in loaders.values():
            sum(read())
        rates = {title: [] for title in loaders}
        for _ in range(given.rounds):
            for title, read in loaders.items():
                rates[title].append(rate(read, given.seconds))
        table = Table("loader", "frames/s", "ratio to Pillow", title=f"{given.workers} worker(s)")
        for title, found in rates.items():
            ratio = statistics.median(a / b for a, b in zip(found, rates[peer], strict=True))
            table.add_row(title, f"{statistics.median(found):,.0f}", f"{ratio:.1f} ×")
        console.print(table)
        print(machine("cpu"))
        if given.quickstart:
            train_head(corpus, folder)


if __name__ == "__main__":
    measure()
