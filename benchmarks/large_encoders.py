"""Cost of the paper's encoders: `examples/affwild2_beit_wavlm.yaml` with random weights of the full size.

    abaw synth corpus
    python benchmarks/large_encoders.py corpus

Trains some steps, scores the validation videos whole, and prints the device, frames a second and peak
memory. The weights are random: nothing is downloaded, the scores mean nothing, the cost is the real one.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import lightning.pytorch as pl
import torch

from abaw.cli import main

BEIT_LARGE = {
    "model_type": "beit",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "image_size": 224,
    "use_relative_position_bias": True,
}
WAVLM_LARGE = {
    "model_type": "wavlm",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}


class Meter(pl.Callback):
    """Counts the frames of a stage and the seconds that they take, data loading included."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}

    def _start(self, *_: object) -> None:
        self.frames = 0
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.begin = time.perf_counter()

    def _count(self, trainer: pl.Trainer, module: object, outputs: object, batch: dict, *_: object) -> None:
        self.frames += int((batch["frame"] >= 0).sum())

    def _end(self, stage: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated()
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        seconds = time.perf_counter() - self.begin
        print(
            f"{stage}: {self.frames} frames in {seconds:.1f} s, {self.frames / seconds:.1f} frames/s, "
            f"peak {'GPU' if torch.cuda.is_available() else 'process'} memory {peak / 2**30:.2f} GiB"
        )

    on_train_epoch_start = _start
    on_train_batch_end = _count
    on_validation_epoch_start = _start
    on_validation_batch_end = _count

    def on_train_epoch_end(self, *_: object) -> None:
        self._end("training")

    def on_validation_epoch_end(self, *_: object) -> None:
        self._end("whole-video evaluation")


def measure() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--steps", type=int, default=20, help="training steps (default: 20)")
    parser.add_argument("--batches", type=int, default=None, help="evaluation batches (default: all)")
    given = parser.parse_args()
    gpu = torch.cuda.is_available()
    print("device:", torch.cuda.get_device_name() if gpu else "CPU", "| torch", torch.__version__)
    limit = ["--trainer.limit_val_batches", str(given.batches)] if given.batches else []
    common = [
        "--data.root", str(given.corpus),
        "--model.visual_encoder.init_args.pretrained", "false",
        "--model.visual_encoder.init_args.config_overrides", json.dumps(BEIT_LARGE),
        "--model.audio_encoder.init_args.pretrained", "false",
        "--model.audio_encoder.init_args.config_overrides", json.dumps(WAVLM_LARGE),
        "--trainer.accelerator", "gpu" if gpu else "cpu",
        "--trainer.devices", "1",
        "--trainer.strategy", "auto",
        "--trainer.callbacks+", f"{__name__}.Meter",
        "--trainer.enable_progress_bar", "false",
        "--trainer.num_sanity_val_steps", "0",
        *limit,
    ]  # fmt: skip
    config = Path(__file__).parents[1] / "examples" / "affwild2_beit_wavlm.yaml"
    with tempfile.TemporaryDirectory() as folder:
        options = ["--trainer.default_root_dir", folder, "--trainer.max_steps", str(given.steps)]
        raise SystemExit(main(["fit", "--config", str(config), *common, *options]))


if __name__ == "__main__":
    measure()
