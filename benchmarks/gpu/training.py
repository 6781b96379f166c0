"""Steps of `examples/affwild2_beit_wavlm.yaml`, encoders frozen and trained."""

import gc
import tempfile

import lightning.pytorch as pl
import torch
from large_encoders import AUDIO, VISUAL

from abaw.data.batch import on_host
from abaw.encoders import HFAudioEncoder, HFVisualEncoder
from gpu.ceilings import matrix_rate
from gpu.command import command
from gpu.device import Watch, clock, flops, peak_bytes, restart_peak, total_bytes, workers
from gpu.prepare import CORPUS
from gpu.report import Report, Sizes

WARM, TIMED, WATCHED = 5, 11, 4
"""Steps of each kind, 20 in all."""


class Enough(BaseException):
    """The steps are done; there is nothing to validate or to save, and nothing for ``abaw`` to tell."""


class Meter(pl.Callback):
    """Times the steps once they are warm, loading included, and watches the last."""

    last: "Meter | None" = None

    def __init__(self) -> None:
        Meter.last = self
        self.frames = 0
        self.rate = 0.0
        self.peak = 0
        self.losses: list[torch.Tensor] = []

    def on_train_start(self, *_: object) -> None:
        restart_peak()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: object, outputs: dict, batch: dict, index: int
    ) -> None:
        done = index + 1
        self.losses.append(outputs["loss"].detach())
        if WARM < done <= WARM + TIMED:
            self.frames += int((on_host(batch).frame >= 0).sum())
        if done == WARM:
            self.begin = clock()
        if done == WARM + TIMED:
            self.rate = self.frames / (clock() - self.begin)
            self.peak = peak_bytes()
            self.watch = Watch().__enter__()
        if done == WARM + TIMED + WATCHED:
            self.watch.__exit__()
            raise Enough


def options(small: bool) -> list[str]:
    """The corpus in place of the real one, one device, nothing written but the run's folder."""
    gpu = torch.cuda.is_available()
    given = {
        "data.root": CORPUS,
        "data.stride": 8 if small else 30,  # enough windows for the steps to lie in one epoch
        "data.num_workers": workers(small),
        "trainer.accelerator": "gpu" if gpu else "cpu",
        "trainer.devices": 1,
        "trainer.strategy": "auto",
        "trainer.callbacks+": f"{__name__}.Meter",
        "trainer.enable_progress_bar": "false",
        "trainer.num_sanity_val_steps": 0,
        "trainer.max_epochs": 1,
    }
    if small:
        given |= {"data.window": 16, "data.image_size": 32, "model.fusion.init_args.dim": 32}
    return [f"--{name}={value}" for name, value in given.items()]


def train(sizes: Sizes, frozen: bool, batch_size: int) -> Meter:
    """Train the steps.

    Raises:
        RuntimeError: The command failed, for want of memory for one, or ended before the steps were done, or
            a loss is not finite.
    """
    config = sizes.source / "examples" / "affwild2_beit_wavlm.yaml"
    slots = ("visual_encoder", "audio_encoder")
    freeze = [f"--model.{slot}.init_args.freeze={str(frozen).lower()}" for slot in slots]
    with tempfile.TemporaryDirectory() as run:
        where = [f"--trainer.default_root_dir={run}", f"--data.batch_size={batch_size}"]
        try:
            command("fit", f"--config={config}", *options(sizes.small), *freeze, *where)
        except Enough:
            meter = Meter.last
            assert meter is not None
            if not torch.stack(meter.losses).isfinite().all():
                raise RuntimeError("a loss is not finite") from None
            return meter
    raise RuntimeError("the corpus has fewer steps than are measured")


@torch.no_grad()
def flops_of_a_frame() -> float:
    """Of both encoders, forward, where a window has 60 frames and 3 seconds of sound."""
    visual, audio = HFVisualEncoder(VISUAL), HFAudioEncoder(AUDIO)
    for encoder in (visual, audio):
        encoder.backbone.model.set_attn_implementation("eager")
    crop = torch.zeros(1, 1, 3, 112, 112, dtype=torch.uint8)
    of_crop = flops(lambda: visual(crop, torch.ones(1, 1, dtype=torch.bool)))
    clock = torch.arange(60)[None] / 30
    of_sound = flops(lambda: audio(torch.zeros(1, 48_000), clock, torch.ones(1, 60, dtype=torch.bool)))
    return of_crop + of_sound / 60


def measure(report: Report, sizes: Sizes) -> None:
    forward = matrix_rate(sizes.small) / flops_of_a_frame()
    for frozen in (True, False):
        name = "encoders frozen" if frozen else "encoders trained"
        # Trained, from what surely fits to the example's own.
        for batch_size in (2,) if sizes.small else (8,) if frozen else (2, 4, 8):
            figure = f"{name}, batch {batch_size}"
            torch.compiler.reset()
            gc.collect()
            restart_peak()
            with report.guard(figure):
                meter = train(sizes, frozen, batch_size)
                limit = forward if frozen else forward / 3  # a backward costs two forwards
                report.row(figure, meter.rate, "frames/s", limit=limit, limit_is="matrix rate")
                card = total_bytes()
                report.row(
                    f"{figure}: peak memory",
                    meter.peak / 2**30,
                    "GiB",
                    limit=None if card is None else card / 2**30,
                    limit_is="card" if card else "",
                )
                report.row(f"{figure}: idle share of the device", meter.watch.idle())
                print(meter.watch.kernels())
            Meter.last = None
