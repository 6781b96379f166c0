"""Whole videos, from files to votes, beside the encoders alone."""

import tempfile
from pathlib import Path
from statistics import median

import torch

from abaw import ExpressionModule
from abaw.data.datasets import Loader
from abaw.data.single import open_video
from abaw.encoders import HFAudioEncoder, HFVisualEncoder
from abaw.engine import VideoAssembler, WindowVoter
from abaw.fusion import DualBranchTransformer
from gpu.device import Watch, clock, device, peak_bytes, restart_peak, total_bytes, waits, workers
from gpu.prepare import RATE, clip_seconds
from gpu.report import Goal, Report, Sizes

CLASSES = 8
SHARE = Goal("≥", 0.9, of_limit=True)


class Reader:
    """Opens one of the prepared videos, its sound not yet decoded."""

    def __init__(self, small: bool) -> None:
        # Four chunks of 64 frames a batch: two micro-batches.
        self.options = {"batch_size": 1 if small else 4, "num_workers": workers(small)}

    def __call__(self, name: str, scratch: str) -> Loader:
        return open_video(f"{name}.mp4", name, Path(scratch), **self.options)


def files_to_votes(model: ExpressionModule, reader: Reader, name: str) -> int:
    """Score a video; how many of its frames have a vote."""
    assembler, voter = VideoAssembler(), WindowVoter()
    with tempfile.TemporaryDirectory() as scratch:
        for batch in reader(name, scratch):
            batch = model.transfer_batch_to_device(batch, model.device, 0)
            for video in assembler.add(model.encode(batch), batch):
                covered = voter.vote(model.fusion, video, CLASSES)[1].cpu()
    return int(covered.sum())


def on_the_device(model: ExpressionModule, reader: Reader, name: str) -> list[dict]:
    with tempfile.TemporaryDirectory() as scratch:
        return [model.transfer_batch_to_device(batch, model.device, 0) for batch in reader(name, scratch)]


@torch.no_grad()
def measure(report: Report, sizes: Sizes) -> None:
    visual = HFVisualEncoder(dtype="bfloat16", micro_batch=8 if sizes.small else 128)
    audio = HFAudioEncoder(dtype="bfloat16")
    head = DualBranchTransformer(visual.out_features, audio.out_features, CLASSES)
    model = ExpressionModule(visual, audio, head).to(device()).eval()
    reader = Reader(sizes.small)
    names = clip_seconds(sizes.small)
    short, long = names
    files_to_votes(model, reader, short)  # what PyTorch does once
    peaks = {}
    for name, seconds in names.items():
        frames = RATE * seconds
        with report.guard(f"{name}: files to votes", SHARE):
            alone, whole = [], []
            batches = on_the_device(model, reader, name)
            for _ in range(3 if name == short else 1):
                begin = clock()
                for batch in batches:
                    model.encode(batch)
                alone.append(frames / (clock() - begin))
            del batches, batch
            restart_peak()
            for _ in range(3 if name == short else 1):
                begin = clock()
                scored = files_to_votes(model, reader, name)
                whole.append(frames / (clock() - begin))
            if scored != frames:
                raise RuntimeError(f"{scored} of {frames} frames have a vote")
            peaks[name] = peak_bytes()
            report.row(f"{name}: encoders alone, batches on the device", median(alone), "frames/s")
            report.row(
                f"{name}: files to votes",
                median(whole),
                "frames/s",
                limit=median(alone),
                limit_is="encoders alone",
                goal=SHARE,
                note=f"{median(whole) / RATE:.1f} × real time, {reader.options['num_workers']} workers",
            )
            limit = total_bytes()
            report.row(
                f"{name}: peak memory",
                peaks[name] / 2**20,
                "MiB",
                limit=None if limit is None else limit / 2**20,
                limit_is="card" if limit else "",
            )
    with report.guard("memory over length"):
        # Features, scores and their sums, masks, targets.
        kept = 4 * (visual.out_features + audio.out_features + 2 * CLASSES) + 11
        grown = peaks[long] - peaks[short] - kept * RATE * (names[long] - names[short])
        report.row(
            "memory over length, beyond the features",
            grown / 2**20,
            "MiB",
            limit=peaks[short] / 2**20,
            limit_is=f"peak of {short}",
            note="up to 256 windows, of the longer video alone, pass the head at once",
        )
    count_waits(report, model, reader, short, long)
    with report.guard("idle share, files to votes"):
        with Watch() as watch:
            files_to_votes(model, reader, short)
        report.row(f"{short}: idle share of the device", watch.idle(), note="its start and end included")
        print(watch.kernels())


def count_waits(report: Report, model: ExpressionModule, reader: Reader, short: str, long: str) -> None:
    """How often the host waits for the device, before a video is complete and in all."""
    goal = Goal("≤", 0)
    with report.guard("waits of the host", goal), tempfile.TemporaryDirectory() as scratch:
        moved = iter(reader(long, scratch))
        assembler = VideoAssembler()

        def some_batches() -> None:
            for _, batch in zip(range(3), moved, strict=False):
                batch = model.transfer_batch_to_device(batch, model.device, 0)
                assert list(assembler.add(model.encode(batch), batch)) == []

        figures = {
            "waits of the host in 3 batches": (some_batches, goal),
            f"waits of the host in a video of {short}": (lambda: files_to_votes(model, reader, short), None),
        }
        for figure, (step, wanted) in figures.items():
            places = waits(step)
            if places is None:
                report.row(figure, None, note="told by a CUDA device alone")
                continue
            where = ", ".join(f"{place} × {count}" for place, count in places.most_common(4))
            report.row(figure, places.total(), goal=wanted, note=where)
