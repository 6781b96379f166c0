"""What only a CUDA device can show; skipped, with the reason, where there is none."""

import json
from pathlib import Path

import pytest
import torch
from small import QUICKSTART

from abaw import ExpressionModule
from abaw.cli import main
from abaw.data import Batch
from abaw.encoders import HFAudioEncoder, HFVisualEncoder
from abaw.engine import VideoAssembler
from abaw.fusion import ConcatFusion

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


@torch.no_grad()
def test_the_host_waits_for_nothing_between_the_batches_of_a_video() -> None:
    beit = {"model_type": "beit", "image_size": 32, "use_relative_position_bias": True}
    wavlm = {"model_type": "wavlm", "conv_dim": [8] * 7, "num_conv_pos_embedding_groups": 2}
    size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    visual = HFVisualEncoder(pretrained=False, config_overrides=beit | size)
    audio = HFAudioEncoder(pretrained=False, config_overrides=wavlm | size)
    device = torch.device("cuda")
    model = ExpressionModule(visual, audio, ConcatFusion(8, 8, 8)).to(device).eval()
    frame = torch.arange(16).view(2, 8)
    batch = Batch(
        video=torch.zeros(2, 8, 3, 112, 112, dtype=torch.uint8).pin_memory(),
        video_mask=frame % 3 > 0,
        audio=torch.zeros(2, 16000).pin_memory(),
        audio_mask=torch.ones(2, 8, dtype=torch.bool).pin_memory(),
        time=(0.2 + torch.arange(8) / 25).repeat(2, 1),
        target=torch.zeros(2, 8, dtype=torch.int64).pin_memory(),
        frame=frame,
        video_id=["v", "v"],
        audio_start=[0.0, 0.32],
        num_frames=[32, 32],
    )
    for mode in ("default", "error"):  # first what PyTorch does once
        moved = model.transfer_batch_to_device(batch, device, 0)
        torch.cuda.set_sync_debug_mode(mode)
        try:
            assert list(VideoAssembler().add(model.encode(moved), moved)) == []
        finally:
            torch.cuda.set_sync_debug_mode("default")
