"""Every YAML and script in examples/ runs, on the small corpus, through the command line."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small import EXAMPLES

from abaw import ExpressionModule
from abaw.cli import main

pytestmark = pytest.mark.slow

QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.strategy=auto",
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.limit_train_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--data.num_workers=0",
    "--data.batch_size=4",
]
TINY_BEIT = {
    "model_type": "beit",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
TINY_WAVLM = {
    "model_type": "wavlm",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
}
OPTIONS = {
    "quickstart.yaml": ["--data.image_size=32"],
    "audio_only.yaml": [],
    "video_only.yaml": ["--data.image_size=32"],
    "custom_fusion/config.yaml": ["--data.image_size=32"],
    "affwild2_beit_wavlm.yaml": [
        "--model.visual_encoder.init_args.pretrained=false",
        f"--model.visual_encoder.init_args.config_overrides={json.dumps(TINY_BEIT)}",
        "--model.audio_encoder.init_args.pretrained=false",
        f"--model.audio_encoder.init_args.config_overrides={json.dumps(TINY_WAVLM)}",
        "--model.fusion.init_args.dim=32",
        "--data.image_size=32",
        "--data.window=16",
        "--inference.stride=8",
    ],
}


def test_every_yaml_is_here() -> None:
    assert {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.yaml")} == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_yaml_trains_and_tests(
    name: str,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str((EXAMPLES / name).parent))
    where = [f"--data.root={corpus}", f"--trainer.default_root_dir={tmp_path}"]
    assert main(["fit", f"--config={EXAMPLES / name}", *where, *QUICK, *OPTIONS[name]]) == 0
    # What it says to type next can be typed.
    (said,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Next: abaw "))
    assert main(shlex.split(said)[2:]) == 0
    conditions = json.loads((tmp_path / "test" / "test.json").read_text())["results"]
    expected = {"audio_only.yaml": ["audio only"], "video_only.yaml": ["video only"]}
    assert [c for c in conditions if c != "majority"] == expected.get(
        name, ["audio+video", "video only", "audio only"]
    )
    # The same checkpoint opens in plain Python.
    own = ["mean_fusion"] if name.startswith("custom_fusion") else []
    model = ExpressionModule.load_from_checkpoint(tmp_path / "checkpoints" / "best.ckpt", trust=own)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_custom_fusion_installs_and_passes_its_own_tests(tmp_path: Path) -> None:
    pytest.importorskip(
        "setuptools", reason="builds without the network, by the setuptools that is installed"
    )
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLES / "custom_fusion", source)  # building writes beside the source
    alone = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    python = [sys.executable, "-m"]
    subprocess.run([*python, "pip", "install", *alone, f"--target={site}", source], check=True)
    command = [*python, "pytest", "-q", "-p", "no:cacheprovider", source / "tests"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}, check=True)
    assert (site / "mean_fusion" / "head.py").is_file()
