"""The quickstart, trained in bf16-mixed, scored there and on the CPU."""

import json
import time
from pathlib import Path

import torch

from abaw.postprocess.scores import load_scores
from gpu.command import command
from gpu.device import workers
from gpu.prepare import CORPUS
from gpu.report import Goal, Report, Sizes

CLOSE = Goal("≤", 0.02)
SAME = Goal("≥", 0.95)
RUN = "quickstart"
SMALL = {
    "trainer.max_epochs": 1,
    "trainer.check_val_every_n_epoch": 1,
    "data.image_size": 32,
    "model.visual_encoder.init_args.out_features": 16,
    "model.audio_encoder.init_args.out_features": 16,
    "model.fusion.init_args.dim": 16,
}


def wait_for(path: Path, report: Report) -> None:
    """The corpus is being written beside this."""
    while not path.exists():
        if report.seconds_left() < 10:
            raise RuntimeError(f"{path} was not written in time")
        time.sleep(0.2)


def measure(report: Report, sizes: Sizes) -> None:
    accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    mixed = [f"--trainer.accelerator={accelerator}", "--trainer.precision=bf16-mixed"]
    single = ["--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    with report.guard("training"):
        wait_for(Path(CORPUS) / "SYNTHETIC.txt", report)
        begin = time.perf_counter()
        config = sizes.source / "examples" / "quickstart.yaml"
        extra = [f"--{name}={value}" for name, value in SMALL.items()] if sizes.small else []
        where = [f"--data.root={CORPUS}", f"--trainer.default_root_dir={RUN}"]
        machine = ["--trainer.enable_progress_bar=false", f"--data.num_workers={workers(sizes.small)}"]
        command("fit", f"--config={config}", *where, *mixed, *machine, *extra)
        taken = time.perf_counter() - begin
        report.row("training in bf16-mixed", taken, "s", note="beside the tests and what is prepared")
    with report.guard("scores in bf16-mixed and on the CPU", CLOSE):
        results = {}
        for name, options in {"mixed": mixed, "single": single}.items():
            command("test", f"--run={RUN}", f"--report.output_dir={name}", *options)
            results[name] = json.loads((Path(name) / "test.json").read_text())["results"]
        for condition in ("audio+video", "video only", "audio only"):
            here, there = (results[name][condition]["f1"] for name in ("mixed", "single"))
            note = f"{here:.4f} in bf16-mixed, {there:.4f} on the CPU"
            report.row(f"{condition}: macro-F1, difference", abs(here - there), goal=CLOSE, note=note)
    with report.guard("predictions in bf16-mixed and on the CPU", SAME):
        for name, options in {"mixed": mixed, "single": single}.items():
            command("predict", f"--run={RUN}", f"--predictions.output_dir={name}", *options)
        pairs = [
            (load_scores(path), load_scores(Path("single") / "scores" / path.name))
            for path in sorted(Path("mixed").glob("scores/*.safetensors"))
        ]
        same = torch.cat([one.labels == other.labels for one, other in pairs]).double().mean()
        apart = torch.cat([(one.scores - other.scores).abs().flatten() for one, other in pairs])
        report.row("frames with the same expression", float(same), goal=SAME, note=f"of {len(pairs)} videos")
        report.row("scores, largest difference", float(apart.max()), note=f"mean {float(apart.mean()):.1e}")
