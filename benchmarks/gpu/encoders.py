"""BEiT-large and WavLM-large: frames a second, and the share of the measured matrix rate."""

import time
from collections.abc import Iterator

import torch

from abaw.encoders import HFAudioEncoder, HFVisualEncoder
from gpu.ceilings import matrix_rate
from gpu.device import Step, Watch, device, flops, seconds
from gpu.report import Goal, Report, Sizes

FRAME_RATE = 30
"""Frames a second of Aff-Wild2's videos."""

GOAL = Goal("≥", 0.5, of_limit=True)


class Visual:
    """BEiT at work: micro-batches of face crops."""

    name, goal = "BEiT-large", GOAL

    def __init__(self, small: bool) -> None:
        self.encoder = HFVisualEncoder(dtype="bfloat16").to(device())
        self.frames = 8 if small else 256
        self.micro_batches = (4, 8) if small else (256, 64, 128, 32)

    def step(self, micro_batch: int) -> Step:
        """Encode the frames, so many at once."""
        self.encoder.micro_batch = micro_batch
        video = torch.randint(0, 256, (1, self.frames, 3, 112, 112), dtype=torch.uint8, device=device())
        mask = torch.ones(1, self.frames, dtype=torch.bool)
        return lambda: self.encoder(video, mask)

    def frames_of(self, micro_batch: int) -> int:
        return self.frames


class Audio:
    """WavLM at work: batches of windows of 2 seconds, half a second of sound before and after."""

    name, goal = "WavLM-large", None

    def __init__(self, small: bool) -> None:
        self.encoder = HFAudioEncoder(dtype="bfloat16").to(device())
        self.micro_batches = (1, 2) if small else (256, 64, 128, 32)

    def step(self, micro_batch: int) -> Step:
        """Encode so many windows."""
        audio = torch.randn(micro_batch, 48_000, device=device())
        clock = (0.5 + torch.arange(2 * FRAME_RATE, device=device()) / FRAME_RATE).repeat(micro_batch, 1)
        mask = torch.ones_like(clock, dtype=torch.bool)
        return lambda: self.encoder(audio, clock, mask)

    def frames_of(self, micro_batch: int) -> int:
        return micro_batch * 2 * FRAME_RATE


@torch.no_grad()
def flops_of(work: Visual | Audio) -> float:
    """Of a frame, in the network as it is without fused kernels."""
    network = work.encoder.backbone.model
    network.set_attn_implementation("eager")
    micro_batch = min(work.micro_batches)
    return flops(work.step(micro_batch)) / work.frames_of(micro_batch)


def ways(work: Visual | Audio, report: Report) -> Iterator[tuple[str, int]]:
    """What to measure, the longest last; what would not be done in time is left out, and said."""
    network = work.encoder.backbone.model
    for way in ("sdpa", "eager"):
        if way == "sdpa" and not network._supports_sdpa:
            report.row("sdpa", None, note=f"transformers has none for {work.name}")
            continue
        network.set_attn_implementation(way)
        for micro_batch in work.micro_batches:
            yield way, micro_batch
    network.set_attn_implementation("sdpa" if network._supports_sdpa else "eager")
    longest = 25.0
    for micro_batch in work.micro_batches:
        if report.seconds_left() < longest + 3:
            report.row(f"compiled, micro-batch {micro_batch}", None, note="no time left to compile")
            continue
        torch.compiler.reset()
        work.encoder.micro_batch = micro_batch
        begin = time.monotonic()
        # On a CPU the compiler of the generated code takes a minute.
        work.encoder.compile(backend="inductor" if torch.cuda.is_available() else "aot_eager")
        yield "compiled", micro_batch
        longest = time.monotonic() - begin


@torch.no_grad()
def measure_one(report: Report, work: Visual | Audio, small: bool) -> None:
    """Each way, each micro-batch."""
    per_frame = flops_of(work)
    print(f"{work.name}: {per_frame:.0f} operations a frame")
    limit = matrix_rate(small) / per_frame
    for way, micro_batch in ways(work, report):
        figure = f"{way}, micro-batch {micro_batch}"
        with report.guard(figure, work.goal):
            step = work.step(micro_batch)
            rate = work.frames_of(micro_batch) / seconds(step, budget=0.8)
            report.row(
                figure,
                rate,
                "frames/s",
                limit=limit,
                limit_is="matrix rate",
                goal=work.goal,
                note=f"{rate / FRAME_RATE:.1f} × real time",
            )
            if micro_batch == max(work.micro_batches):
                with Watch() as watch:
                    step()
                print(f"{figure}: idle {watch.idle():.1%}\n{watch.kernels()}")


def visual(report: Report, sizes: Sizes) -> None:
    measure_one(report, Visual(sizes.small), sizes.small)


def audio(report: Report, sizes: Sizes) -> None:
    measure_one(report, Audio(sizes.small), sizes.small)
