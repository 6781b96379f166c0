"""What only a CUDA device can show; skipped, with the reason, where there is none."""

import json
from pathlib import Path

import pytest
import torch
from small import QUICKSTART

from abaw.cli import main

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_scores_on_the_gpu_are_the_cpus(corpus: Path, tmp_path: Path) -> None:
    """Train on the GPU in bf16-mixed; the same checkpoint scores alike there and on the CPU."""
    run = tmp_path / "run"
    where = [f"--data.root={corpus}", f"--trainer.default_root_dir={run}"]
    options = ["--trainer.max_epochs=2", "--trainer.accelerator=gpu", "--trainer.precision=bf16-mixed"]
    assert main(["fit", f"--config={QUICKSTART}", *where, *options]) == 0
    scores = {}
    for name, device in {
        "gpu": ["--trainer.accelerator=gpu", "--trainer.precision=bf16-mixed"],
        "cpu": ["--trainer.accelerator=cpu", "--trainer.precision=32-true"],
    }.items():
        folder = tmp_path / name
        assert main(["test", f"--run={run}", f"--report.output_dir={folder}", *device]) == 0
        results = json.loads((folder / "test.json").read_text())["results"]
        scores[name] = results["audio+video"]["accuracy"]
        assert main(["predict", f"--run={run}", f"--predictions.output_dir={folder}", *device]) == 0
    assert scores["gpu"] == pytest.approx(scores["cpu"], abs=0.02)
    labels = [(tmp_path / name / "predictions.txt").read_text().splitlines() for name in scores]
    same = sum(one == other for one, other in zip(*labels, strict=True)) / len(labels[0])
    assert same > 0.95
