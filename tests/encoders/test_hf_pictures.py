"""The size and the scale of pictures are those of the checkpoint's own image processor."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from abaw.encoders import HFVisualEncoder
from abaw.encoders.hf_pictures import prepared_size
from abaw.errors import InputError

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
# As published: the configuration says how large pictures were in training, the processor what they are now.
DINOV2 = {**TINY, "image_size": 70, "patch_size": 14}
DINOV2_PROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 48},
    "do_center_crop": True,
    "crop_size": {"height": 42, "width": 42},
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
}


def write(folder: Path, model: Any, processor: dict[str, Any] | None) -> Path:
    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    model = Dinov2Model(Dinov2Config(**DINOV2))
    torch.nn.init.normal_(model.embeddings.position_embeddings)  # so that their interpolation shows
    return write(tmp_path_factory.mktemp("dinov2"), model, DINOV2_PROCESSOR)


def picture(size: int) -> Tensor:
    return torch.randint(
        0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def encoded(encoder: HFVisualEncoder, frame: Tensor) -> Tensor:
    return encoder(frame[None, None], torch.ones(1, 1, dtype=torch.bool))[0, 0]


def processed(folder: Path, frame: Tensor, size: int) -> Tensor:
    """What the checkpoint's own processor makes of a picture at a size."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder)
    given = {"size": {"height": size, "width": size}, "crop_size": {"height": size, "width": size}}
    if processor.size.get("shortest_edge"):
        given["size"] = {"shortest_edge": size}
    image = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
    pixels: Tensor = processor(image, return_tensors="pt", **given)["pixel_values"].float()
    assert pixels.shape == (1, 3, size, size)
    return pixels


def as_transformers(folder: Path, frame: Tensor, size: int, **arguments: Any) -> Tensor:
    """The mean of the patches that transformers gives, through a norm without training."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    patches = (size // model.config.patch_size) ** 2
    with torch.no_grad():
        hidden = model(processed(folder, frame, size), **arguments).last_hidden_state
    return F.layer_norm(hidden[0, -patches:].mean(dim=0), (16,), eps=1e-12)


@pytest.mark.parametrize(("asked", "size"), [(None, 42), (42, 42), (70, 70), (112, 112), (28, 28)])
def test_dinov2_sees_pictures_of_its_processors_size(dinov2: Path, asked: int | None, size: int) -> None:
    encoder, frame = HFVisualEncoder(str(dinov2), image_size=asked), picture(size)
    assert encoder.image_size == encoder.provenance()["image_size"] == size
    seen: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    features = encoded(encoder, frame)
    torch.testing.assert_close(seen[0], processed(dinov2, frame, size), atol=1e-5, rtol=0)
    torch.testing.assert_close(features, as_transformers(dinov2, frame, size), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "beit", "beit shared", "beit absolute"])
@pytest.mark.parametrize("size", [24, 48])
def test_positions_are_interpolated_as_transformers_does(kind: str, size: int, tmp_path: Path) -> None:
    from transformers import BeitConfig, BeitModel, ViTConfig, ViTModel

    torch.manual_seed(0)
    tiny = {**TINY, "intermediate_size": 16, "image_size": 32, "patch_size": 8}
    positions = {
        "beit": {"use_relative_position_bias": True},
        "beit shared": {"use_shared_relative_position_bias": True},
        "beit absolute": {"use_absolute_position_embeddings": True},
    }
    model = ViTModel(ViTConfig(**tiny)) if kind == "vit" else BeitModel(BeitConfig(**tiny, **positions[kind]))
    for name, parameter in model.named_parameters():
        if "position" in name:
            torch.nn.init.normal_(parameter)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": size, "width": size}}
    folder, frame = (
        write(tmp_path, model, processor | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
        picture(size),
    )
    encoder = HFVisualEncoder(str(folder))
    assert encoder.image_size == size
    expected = as_transformers(folder, frame, size, interpolate_pos_encoding=True)
    torch.testing.assert_close(encoded(encoder, frame), expected, atol=1e-4, rtol=1e-4)
    # Another size than the network's own, also with gradients and without the folder's word.
    other = HFVisualEncoder(str(folder), image_size=size, freeze=False).eval()
    torch.testing.assert_close(encoded(other, frame), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("entries", "size"),
    [
        ({}, None),
        ({"size": 40}, 40),
        ({"size": {"height": 40, "width": 40}}, 40),
        ({"size": [40, 40]}, 40),
        ({"size": {"shortest_edge": 40}}, 40),
        ({"size": {"shortest_edge": 48}, "crop_size": 40}, 40),
        (
            {"size": {"shortest_edge": 48}, "do_center_crop": True, "crop_size": {"height": 40, "width": 40}},
            40,
        ),
        ({"size": 40, "do_center_crop": False, "crop_size": {"height": 32, "width": 32}}, 40),
        ({"size": 40, "do_resize": False}, None),
        ({"size": 48, "do_resize": False, "do_center_crop": True, "crop_size": 40}, 40),
        ({"size": {"height": 40, "width": 32}}, None),
        ({"size": {"longest_edge": 40}}, None),
        ({"size": {"shortest_edge": 40, "longest_edge": 64}}, 40),
        ({"size": None, "crop_size": None}, None),
    ],
)
def test_the_size_that_a_processor_gives(entries: dict[str, Any], size: int | None) -> None:
    assert prepared_size(entries) == size


@pytest.mark.parametrize(
    "entries",
    [
        {"do_rescale": False, "do_normalize": False},
        {"do_rescale": False, "image_mean": [100.0, 110.0, 120.0], "image_std": [50.0, 60.0, 70.0]},
        {"rescale_factor": 1 / 127.5, "do_normalize": False},
        {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]},
        {"do_normalize": False},
    ],
)
def test_values_are_scaled_as_the_processor_does(
    beit_folder: Path, tmp_path: Path, entries: dict[str, Any]
) -> None:
    folder = shutil.copytree(beit_folder, tmp_path / "copy")
    entries = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, **entries}
    (folder / "preprocessor_config.json").write_text(json.dumps(entries))
    encoder, frame = HFVisualEncoder(str(folder)), picture(32)
    seen: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    encoded(encoder, frame)
    torch.testing.assert_close(seen[0], processed(folder, frame, 32), atol=1e-4, rtol=1e-5)
    assert encoder.provenance() != HFVisualEncoder(str(beit_folder)).provenance()


def test_efficientnets_offset_counts() -> None:
    from abaw.encoders.hf_pictures import scaling

    divisor, mean, std = scaling({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False})
    assert [(value / divisor - mean) / std for value in (0, 127.5, 255)] == pytest.approx([-1, 0, 1])


@pytest.mark.parametrize("size", [0, -14, 41])
def test_a_size_that_cuts_patches_is_refused(dinov2: Path, size: int) -> None:
    with pytest.raises(
        InputError, match=r"image_size must be (a positive multiple of the patches' 14|at least 1)"
    ):
        HFVisualEncoder(str(dinov2), image_size=size)


def test_a_network_of_oblong_pictures_is_told_its_size(tmp_path: Path) -> None:
    from transformers import YolosConfig, YolosModel

    torch.manual_seed(0)
    config = YolosConfig(**TINY, intermediate_size=16, image_size=[32, 48], patch_size=8)
    folder = write(tmp_path, YolosModel(config), {"size": {"height": 40, "width": 40}})
    assert HFVisualEncoder(str(folder)).image_size == 40
    assert encoded(HFVisualEncoder(str(folder), image_size=48), picture(48)).isfinite().all()
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"made for pictures of \[32, 48\], and crops are square: say image_size"
    ):
        HFVisualEncoder(str(folder))


def test_a_network_of_one_size_keeps_it(tmp_path: Path) -> None:
    from transformers import LevitConfig, LevitModel

    torch.manual_seed(0)
    depth = {"hidden_sizes": [16] * 3, "num_attention_heads": [2] * 3, "depths": [1] * 3, "key_dim": [4] * 3}
    model = LevitModel(LevitConfig(image_size=64, **depth))
    folder = write(tmp_path, model, {"size": {"height": 96, "width": 96}})
    encoder = HFVisualEncoder(str(folder))
    assert encoder.image_size == 64
    assert encoded(encoder, picture(64)).isfinite().all()
    with pytest.raises(InputError, match="levit network takes pictures of 64×64 alone, not of 96×96"):
        HFVisualEncoder(str(folder), image_size=96)
