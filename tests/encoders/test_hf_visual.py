import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from waiting import NothingFromTheHost

from abaw.encoders import HFVisualEncoder

MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]  # of the folder's preprocessor_config.json


def crops(*shape: int, size: int = 32) -> Tensor:
    return torch.randint(0, 256, (*shape, 3, size, size), dtype=torch.uint8)


def present(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def normalised(frame: Tensor, mean: list[float] = MEAN, std: list[float] = STD) -> Tensor:
    """One crop (3, H, W), channel by channel, as the checkpoint's authors did."""
    return torch.stack([(frame[c] / 255 - mean[c]) / std[c] for c in range(3)])[None]


def test_features_are_those_of_transformers(beit_folder: Path) -> None:
    from transformers import AutoModel, BeitModel

    video = crops(2, 3)
    mean = HFVisualEncoder(str(beit_folder))(video, present(2, 3))
    cls = HFVisualEncoder(str(beit_folder), pooling="cls")(video, present(2, 3))
    model = AutoModel.from_pretrained(beit_folder, dtype=torch.float32).eval()
    assert isinstance(model, BeitModel)
    with torch.no_grad():
        for b in range(2):
            for t in range(3):
                output = model(pixel_values=normalised(video[b, t]))
                # BEiT's own pooler is the mean of the patches through a norm, here one without training.
                torch.testing.assert_close(mean[b, t], output.pooler_output[0], atol=1e-4, rtol=1e-4)
                first = output.last_hidden_state[0, 0]
                expected = (first - first.mean()) / first.std(correction=0)
                torch.testing.assert_close(cls[b, t], expected, atol=1e-3, rtol=1e-3)


def test_crops_are_resized_on_the_way(beit_folder: Path) -> None:
    encoder = HFVisualEncoder(str(beit_folder))
    seen: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    video = crops(1, 1, size=112)
    encoder(video, present(1, 1))
    large = F.interpolate(video[0].float(), (32, 32), mode="bicubic", antialias=True).clamp(0, 255)
    torch.testing.assert_close(seen[0], normalised(large[0]))
    assert seen[0].shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("entries", "mean", "std"),
    [
        ({"do_normalize": False, "image_mean": MEAN, "image_std": STD}, [0.0] * 3, [1.0] * 3),
        ({}, [0.5] * 3, [0.5] * 3),
        ({"image_mean": 0.25, "image_std": 0.5}, [0.25] * 3, [0.5] * 3),
    ],
)
def test_normalisation_comes_from_the_checkpoint(
    beit_folder: Path, tmp_path: Path, entries: dict[str, Any], mean: list[float], std: list[float]
) -> None:
    folder = shutil.copytree(beit_folder, tmp_path / "copy")
    (folder / "preprocessor_config.json").write_text(json.dumps(entries))
    encoder = HFVisualEncoder(str(folder))
    seen: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    video = crops(1, 1)
    encoder(video, present(1, 1))
    torch.testing.assert_close(seen[0], normalised(video[0, 0], mean, std))


def test_tells_where_it_comes_from(beit_folder: Path, beit: dict[str, Any]) -> None:
    encoder = HFVisualEncoder(str(beit_folder))
    encoder.backbone.model.config._commit_hash = "abc123"  # as transformers notes it, loading from the hub
    told = encoder.provenance()
    assert told.pop("mean") == pytest.approx(MEAN)
    assert told.pop("std") == pytest.approx(STD)
    assert told == {"model_name": str(beit_folder), "revision": "abc123", "image_size": 32}
    random = HFVisualEncoder(pretrained=False, config_overrides=beit).provenance()
    assert (random["model_name"], random["revision"]) == ("", None)


def test_a_section_of_a_processor_file_counts_too(beit_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(beit_folder, tmp_path / "copy")
    (folder / "preprocessor_config.json").rename(folder / "old.json")
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": {"image_mean": MEAN}}))
    assert HFVisualEncoder(str(folder)).mean.flatten().tolist() == pytest.approx(MEAN)


def test_absent_frames_and_micro_batches(beit: dict[str, Any]) -> None:
    encoder = HFVisualEncoder(pretrained=False, config_overrides=beit, micro_batch=3)
    sizes: list[int] = []
    encoder.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    video, mask = crops(2, 4), torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1]]).bool()
    features = encoder(video, mask)
    assert sizes == [3, 3]
    assert not features[~mask].any()
    encoder.micro_batch = 99
    torch.testing.assert_close(encoder(video, mask), features, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(video[1:], mask[1:]), features[1:], atol=1e-5, rtol=1e-4)


def test_a_frozen_network_stays_as_it_is(beit: dict[str, Any]) -> None:
    encoder = HFVisualEncoder(pretrained=False, config_overrides=beit)
    parent = torch.nn.ModuleList([encoder])
    video = crops(1, 3)
    calm = encoder.eval()(video, present(1, 3))
    parent.train()
    assert not any(module.training for module in encoder.backbone.modules())
    torch.testing.assert_close(encoder(video, present(1, 3)), calm)  # despite its dropout of one half
    assert not calm.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    calls: list[int] = []
    encoder.backbone.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    assert not encoder(video, ~present(1, 3)).any()
    assert not calls


@pytest.mark.parametrize("any_face", [True, False])
def test_a_trainable_network_gives_every_trainable_parameter_a_gradient(
    beit_folder: Path, any_face: bool
) -> None:
    encoder = HFVisualEncoder(str(beit_folder), freeze=False).train()
    assert encoder.backbone.model.training
    encoder(crops(1, 3), present(1, 3) & any_face).square().sum().backward()
    trainable = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert {name for name, p in encoder.named_parameters() if p.grad is not None} == trainable
    frozen = {name for name, _ in encoder.named_parameters()} - trainable
    assert frozen == {
        "backbone.model.embeddings.mask_token",
        "backbone.model.pooler.layernorm.weight",
        "backbone.model.pooler.layernorm.bias",
    }


TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
NO_MLP = {entry: value for entry, value in TINY.items() if entry != "intermediate_size"}


@pytest.mark.parametrize(
    ("overrides", "extra"),
    [
        ({"model_type": "vit", "image_size": 32, **TINY}, 1),
        ({"model_type": "deit", "image_size": 32, **TINY}, 2),
        ({"model_type": "dinov2_with_registers", "image_size": 32, "patch_size": 8, **NO_MLP}, 5),
        (
            {
                "model_type": "swin",
                "image_size": 32,
                "embed_dim": 8,
                "depths": [1, 1],
                "num_heads": [2, 2],
                "window_size": 4,
            },
            0,
        ),
    ],
)
def test_the_mean_is_over_patches_alone(overrides: dict[str, Any], extra: int) -> None:
    encoder = HFVisualEncoder(pretrained=False, config_overrides=overrides)
    hidden: list[Tensor] = []
    encoder.backbone.register_forward_hook(lambda module, inputs, output: hidden.append(output))
    video = crops(1, 2)
    features = encoder(video, present(1, 2))
    patches = hidden[0][:, extra:].mean(dim=1)
    torch.testing.assert_close(features[0], F.layer_norm(patches, (16,), eps=1e-12))
    encoder.pooling = "cls"
    if extra:
        features = encoder(video, present(1, 2))
        torch.testing.assert_close(features[0], F.layer_norm(hidden[1][:, 0], (16,), eps=1e-12))
    else:
        with pytest.raises(ValueError, match="no cls token"):
            encoder(video, present(1, 2))


def test_maps_are_averaged_over_places() -> None:
    overrides = {
        "model_type": "convnext",
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [4, 4, 8, 12],
        "image_size": 64,
    }
    encoder = HFVisualEncoder(pretrained=False, config_overrides=overrides)
    hidden: list[Tensor] = []
    encoder.backbone.register_forward_hook(lambda module, inputs, output: hidden.append(output))
    features = encoder(crops(1, 2), present(1, 2))
    assert encoder.out_features == 12
    assert hidden[0].shape == (2, 12, 2, 2)
    torch.testing.assert_close(features[0], F.layer_norm(hidden[0].flatten(2).mean(dim=2), (12,), eps=1e-12))


def test_of_two_towers_the_one_that_sees(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    tower = {**TINY, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(vision_config=tower, text_config={**TINY, "vocab_size": 50000})).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    encoder, video = HFVisualEncoder(str(tmp_path), pooling="cls"), crops(1, 1)
    with torch.no_grad():
        hidden = model.vision_model(pixel_values=normalised(video[0, 0])).last_hidden_state
    torch.testing.assert_close(
        encoder(video, present(1, 1))[0], F.layer_norm(hidden[:, 0], (16,), eps=1e-12), atol=1e-5, rtol=1e-4
    )


def test_bf16_autocast_stays_close(beit: dict[str, Any]) -> None:
    encoder = HFVisualEncoder(freeze=False, pretrained=False, config_overrides=beit).eval()
    video = crops(1, 3, size=50)
    exact = encoder(video, present(1, 3))
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(video, present(1, 3))
    features.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.requires_grad)
    torch.testing.assert_close(features, exact, atol=0.15, rtol=0)


@pytest.mark.parametrize("kind", ["use_relative_position_bias", "use_shared_relative_position_bias"])
def test_no_layer_waits_for_a_copy_of_its_positions(beit: dict[str, Any], kind: str) -> None:
    torch.manual_seed(0)
    options = beit | {"use_shared_relative_position_bias": False, kind: True}
    encoder = HFVisualEncoder(pretrained=False, config_overrides=options).to("meta")
    with torch.no_grad(), NothingFromTheHost():
        encoder.encode_frames(torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device="meta"))


def test_beit_uses_fused_attention(beit: dict[str, Any]) -> None:
    model = HFVisualEncoder(pretrained=False, config_overrides=beit).backbone.model
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vit_mae_sees_all_patches(pooling: Any) -> None:
    overrides = {"model_type": "vit_mae", "image_size": 32, "patch_size": 8, **TINY}
    torch.manual_seed(0)
    encoder, video = (
        HFVisualEncoder(pretrained=False, config_overrides=overrides, pooling=pooling),
        crops(2, 3),
    )
    drawn = torch.get_rng_state()
    features = encoder(video, present(2, 3))
    assert torch.equal(encoder(video, present(2, 3)), features)
    assert torch.equal(torch.get_rng_state(), drawn)
    # transformers' own, told to mask nothing and to keep the order.
    from transformers import ViTMAEConfig, ViTMAEModel

    del overrides["model_type"]
    model = ViTMAEModel(ViTMAEConfig(mask_ratio=0.0, **overrides)).eval()
    model.load_state_dict(encoder.backbone.model.state_dict())
    pixels = torch.cat([normalised(frame, [0.5] * 3, [0.5] * 3) for frame in video.flatten(0, 1)])
    with torch.no_grad():
        hidden = model(pixels, noise=torch.arange(16.0).repeat(6, 1)).last_hidden_state
    expected = hidden[:, 0] if pooling == "cls" else hidden[:, 1:].mean(dim=1)
    expected = F.layer_norm(expected, (16,), eps=1e-12).unflatten(0, (2, 3))
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
