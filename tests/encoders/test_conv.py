import pytest
import torch
from torch import Tensor

from abaw.encoders import ConvVisualEncoder


@pytest.fixture
def encoder() -> ConvVisualEncoder:
    torch.manual_seed(0)
    return ConvVisualEncoder(out_features=12, width=8, micro_batch=5)


def crops(*shape: int, size: tuple[int, int] = (112, 112)) -> Tensor:
    return torch.randint(30, 200, (*shape, 3, *size), dtype=torch.uint8)


@pytest.mark.parametrize("size", [(112, 112), (56, 56), (40, 61), (224, 160)])
def test_any_size(encoder: ConvVisualEncoder, size: tuple[int, int]) -> None:
    features = encoder(crops(2, 3, size=size), torch.ones(2, 3, dtype=torch.bool))
    assert features.shape == (2, 3, encoder.out_features) == (2, 3, 12)
    assert features.isfinite().all()


def test_crops_of_112_are_averaged_by_twos(encoder: ConvVisualEncoder) -> None:
    small = crops(3, size=(56, 56))
    # Stripes that cancel within every 2×2 block, stronger in some blocks than in others.
    stripes = torch.tensor([[1, -1], [1, -1]]).repeat(56, 56)
    strength = torch.randint(-20, 20, (3, 3, 56, 56))
    large = repeated(small).int() + stripes * repeated(strength)
    torch.testing.assert_close(encoder.encode_frames(large.to(torch.uint8)), encoder.encode_frames(small))


def repeated(pixels: Tensor) -> Tensor:
    return pixels.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


@pytest.mark.parametrize("training", [True, False])
def test_batch_mates_do_not_matter(encoder: ConvVisualEncoder, training: bool) -> None:
    encoder.train(training)
    video, mask = crops(3, 4), torch.rand(3, 4) < 0.7
    together = encoder(video, mask)
    alone = torch.cat([encoder(v[None], m[None]) for v, m in zip(video, mask, strict=True)])
    torch.testing.assert_close(together, alone)


def test_light_does_not_matter(encoder: ConvVisualEncoder) -> None:
    video = crops(4)
    brighter = video + 40
    torch.testing.assert_close(
        encoder.encode_frames(brighter), encoder.encode_frames(video), atol=1e-4, rtol=1e-3
    )
    warmer = video.clone()
    warmer[:, 0] += 50
    torch.testing.assert_close(
        encoder.encode_frames(warmer), encoder.encode_frames(video), atol=1e-4, rtol=1e-3
    )
    contrast = (video / 2).to(torch.uint8)
    change = encoder.encode_frames(contrast) - encoder.encode_frames(video)
    assert change.abs().max() < 0.1 * encoder.encode_frames(video).abs().max()


def test_place_matters() -> None:
    """Two places of one spot differ about as much as a spot and none; a mean over places halves that."""
    video = torch.full((3, 3, 112, 112), 100, dtype=torch.uint8)
    video[0, :, 24:40, 24:40] = 200
    video[1, :, 72:88, 72:88] = 200
    ratios = []
    for seed in range(5):
        torch.manual_seed(seed)
        up, down, none = ConvVisualEncoder(out_features=12, width=8).encode_frames(video)
        ratios.append((up - down).norm() / (up - none).norm())
    assert torch.stack(ratios).mean() > 0.8


def test_a_flat_crop_is_finite(encoder: ConvVisualEncoder) -> None:
    assert encoder.encode_frames(torch.full((1, 3, 112, 112), 9, dtype=torch.uint8)).isfinite().all()


def test_bf16_autocast_stays_close(encoder: ConvVisualEncoder) -> None:
    video, mask = crops(1, 4), torch.ones(1, 4, dtype=torch.bool)
    exact = encoder(video, mask)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(video, mask)
    features.sum().backward()
    assert features.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())
    torch.testing.assert_close(features, exact, atol=0.05, rtol=0.05)


def test_it_holds_no_state_but_parameters(encoder: ConvVisualEncoder) -> None:
    assert not list(encoder.buffers())


def test_width_is_checked() -> None:
    for width in (0, 12):
        with pytest.raises(ValueError, match=r"width must be (a multiple of|at least) 8"):
            ConvVisualEncoder(width=width)
