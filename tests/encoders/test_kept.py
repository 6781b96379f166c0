"""A checkpoint has all that its encoders need: their folders may be gone."""

import shutil
import socket
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as pl
import pytest
import torch
from small import QUICKSTART
from torch import Tensor
from torch.utils.data import DataLoader

from abaw import ExpressionModule, predict_video
from abaw.cli import main
from abaw.encoders import HFAudioEncoder, HFVisualEncoder
from abaw.fusion import ConcatFusion

CLASSES = 8


def batch() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "video": torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8, generator=generator),
        "video_mask": torch.ones(2, 3, dtype=torch.bool),
        "audio": torch.randn(2, 8000, generator=generator) * 0.1,
        "audio_mask": torch.ones(2, 3, dtype=torch.bool),
        "time": 0.1 + torch.arange(3).expand(2, 3) / 25,
        "target": torch.tensor([[0, 1, 2], [3, 4, -1]]),
        "frame": torch.arange(3).expand(2, 3).clone(),
    }


def save(module: ExpressionModule, path: Path) -> Tensor:
    """Write a checkpoint; the logits that it must give."""
    options: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu", "logger": False}
    options |= dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(**options)
    trainer.fit(module, DataLoader([batch()], batch_size=None))
    trainer.save_checkpoint(path)
    with torch.no_grad():
        logits: Tensor = module.eval()(batch())
    return logits


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the network is asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folders(beit_folder: Path, wavlm_folder: Path, tmp_path: Path) -> dict[str, Path]:
    """Copies that can be removed."""
    return {
        "beit": shutil.copytree(beit_folder, tmp_path / "beit"),
        "wavlm": shutil.copytree(wavlm_folder, tmp_path / "wavlm"),
    }


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("gone", ["beit", "wavlm", "both"])
def test_a_checkpoint_is_loaded_without_the_folders(
    folders: dict[str, Path], gone: str, tmp_path: Path
) -> None:
    overrides = {"hidden_dropout_prob": 0.1}
    module = ExpressionModule(
        HFVisualEncoder(str(folders["beit"]), freeze=False, config_overrides=overrides, image_size=40),
        HFAudioEncoder(str(folders["wavlm"])),
        ConcatFusion(16, 16, CLASSES),
    )
    expected = save(module, tmp_path / "model.ckpt")
    for name, folder in folders.items():
        if gone in (name, "both"):
            shutil.rmtree(folder)
    loaded = ExpressionModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True).eval()
    torch.testing.assert_close(loaded(batch()), expected)
    for slot in ("visual_encoder", "audio_encoder"):
        before, after = getattr(module, slot), getattr(loaded, slot)
        assert after.provenance() == before.provenance()
        assert after.architecture() == before.architecture()
        assert [p.requires_grad for p in after.parameters()] == [p.requires_grad for p in before.parameters()]
    # And from that one, another.
    again = save(
        ExpressionModule(loaded.visual_encoder, loaded.audio_encoder, loaded.fusion), tmp_path / "b.ckpt"
    )
    loaded = ExpressionModule.load_from_checkpoint(tmp_path / "b.ckpt", weights_only=True).eval()
    torch.testing.assert_close(loaded(batch()), again)


def test_the_weights_must_all_be_there(beit_folder: Path, tmp_path: Path) -> None:
    module = ExpressionModule(HFVisualEncoder(str(beit_folder)), None, ConcatFusion(16, 1, CLASSES))
    save(module, tmp_path / "model.ckpt")
    state = torch.load(tmp_path / "model.ckpt", weights_only=True)
    del state["state_dict"]["visual_encoder.backbone.model.embeddings.cls_token"]
    torch.save(state, tmp_path / "model.ckpt")
    with pytest.raises(RuntimeError, match="cls_token"):
        ExpressionModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)


def test_a_checkpoint_of_before_is_read_beside_its_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    # The processor's size was not looked at then, nor were configurations kept.
    processor = folders["beit"] / "preprocessor_config.json"
    processor.write_text(processor.read_text().replace("{", '{"size": 64, ', 1))
    module = ExpressionModule(HFVisualEncoder(str(folders["beit"])), None, ConcatFusion(16, 1, CLASSES))
    assert module.visual_encoder is not None
    assert module.visual_encoder.image_size == 64
    save(module, tmp_path / "model.ckpt")
    state = torch.load(tmp_path / "model.ckpt", weights_only=True)
    del state["encoders"]
    torch.save(state, tmp_path / "old.ckpt")
    loaded = ExpressionModule.load_from_checkpoint(tmp_path / "old.ckpt", weights_only=True)
    assert loaded.visual_encoder is not None
    assert loaded.visual_encoder.image_size == 32
    # One that was trained on from it holds a head for that size.
    save(loaded, tmp_path / "later.ckpt")
    later = ExpressionModule.load_from_checkpoint(tmp_path / "later.ckpt", weights_only=True)
    assert later.visual_encoder is not None
    assert later.visual_encoder.image_size == 32
    shutil.rmtree(folders["beit"])
    with pytest.raises(ValueError, match="there is no such folder"):
        ExpressionModule.load_from_checkpoint(tmp_path / "old.ckpt", weights_only=True)


def test_a_network_of_a_later_transformers_is_told(beit_folder: Path, tmp_path: Path) -> None:
    module = ExpressionModule(HFVisualEncoder(str(beit_folder)), None, ConcatFusion(16, 1, CLASSES))
    save(module, tmp_path / "model.ckpt")
    state = torch.load(tmp_path / "model.ckpt", weights_only=True)
    state["encoders"]["visual_encoder"]["config"]["model_type"] = "beit9"
    torch.save(state, tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="this transformers has no 'beit9' networks; install a later one"):
        ExpressionModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_every_command_does_without_the_folders(
    corpus: Path, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    options = [
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.limit_train_batches=1",
        "--data.num_workers=0",
        "--data.image_size=32",
        "--data.window=16",
    ]
    encoders = [
        "--model.visual_encoder=HFVisualEncoder",
        "--model.visual_encoder.model_name=./beit",
        "--model.audio_encoder=HFAudioEncoder",
        f"--model.audio_encoder.model_name={folders['wavlm']}",
        "--model.fusion=ConcatFusion",
        "--trainer.max_epochs=1",
    ]
    start = [f"--config={QUICKSTART}", f"--data.root={corpus}", *options, *encoders]
    assert main(["fit", *start, f"--trainer.default_root_dir={run}"]) == 0
    for folder in folders.values():
        shutil.rmtree(folder)
    best = run / "checkpoints" / "best.ckpt"
    assert main(["validate", f"--run={run}"]) == 0
    assert main(["extract", f"--run={run}", str(tmp_path / "features")]) == 0
    assert main(["fit", f"--run={run}", "--trainer.max_epochs=2"]) == 0
    warm = [f"--weights={best}", f"--trainer.default_root_dir={tmp_path / 'warm'}"]
    assert main(["fit", *start, *warm]) == 0
    video = next(iter(sorted((corpus / "batch1").glob("*.mp4"))))
    prediction = predict_video(run, video, crops=corpus / "cropped_aligned" / video.stem)
    assert prediction.covered.all()
    assert main(["fit", *start, f"--trainer.default_root_dir={tmp_path / 'new'}"]) == 2
