import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn

from abaw.encoders import ConvVisualEncoder, FrameEncoder


class Spy(FrameEncoder):
    """Projects a crop's mean colour and notes what it was fed."""

    def __init__(self, micro_batch: int = 4) -> None:
        super().__init__(out_features=5, micro_batch=micro_batch)
        self.linear = nn.Linear(3, 5)
        self.fed: list[Tensor] = []

    def encode_frames(self, frames: Tensor) -> Tensor:
        self.fed.append(frames)
        features: Tensor = self.linear(frames.float().mean(dim=(2, 3)))
        return features


def video(*shape: int) -> Tensor:
    return torch.randint(0, 256, (*shape, 3, 6, 7), dtype=torch.uint8)


@pytest.fixture
def mask() -> Tensor:
    return torch.tensor([[1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()


def test_each_present_frame_gets_its_own_features(mask: Tensor) -> None:
    encoder, crops = Spy(), video(3, 6)
    features = encoder(crops, mask)
    assert features.dtype == torch.float32
    for b in range(3):
        for t in range(6):
            alone = encoder.linear(crops[b, t].float().mean(dim=(1, 2)))
            expected = alone if mask[b, t] else torch.zeros(5)
            torch.testing.assert_close(features[b, t], expected)


def test_absent_frames_are_never_fed_and_batches_are_small(mask: Tensor) -> None:
    encoder, crops = Spy(micro_batch=4), video(3, 6)
    crops[~mask] = 255
    crops[mask] = crops[mask].clamp(max=254)
    encoder(crops, mask)
    assert [len(frames) for frames in encoder.fed] == [4, 4, 2]
    assert torch.cat(encoder.fed).max() < 255


@pytest.mark.parametrize("micro_batch", [1, 3, 10, 99])
def test_micro_batches_change_no_features_and_no_gradients(mask: Tensor, micro_batch: int) -> None:
    torch.manual_seed(0)
    encoder, crops, weight = Spy(micro_batch=10), video(3, 6), torch.randn(3, 6, 5)

    def run(size: int) -> list[Tensor]:
        encoder.micro_batch = size
        encoder.zero_grad()
        features = encoder(crops, mask)
        (features * weight).sum().backward()
        return [features, *(parameter.grad for parameter in encoder.parameters())]

    torch.testing.assert_close(run(micro_batch), run(10))


def test_without_a_face_a_trainable_encoder_gets_zero_gradients() -> None:
    encoder = ConvVisualEncoder(out_features=8, width=8)
    features = encoder(torch.zeros(2, 3, 3, 20, 20, dtype=torch.uint8), torch.zeros(2, 3, dtype=torch.bool))
    assert not features.any()
    features.sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_without_a_face_nothing_runs_where_nothing_learns() -> None:
    encoder, none = Spy(), torch.zeros(2, 3, dtype=torch.bool)
    with torch.no_grad():
        assert encoder(video(2, 3), none).shape == (2, 3, 5)
    encoder.requires_grad_(False)
    assert not encoder(video(2, 3), none).any()
    assert not encoder.fed


def test_misuse_is_told_in_words() -> None:
    encoder, crops, present = Spy(), video(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"video must be uint8 \(B, T, 3, H, W\), not torch.float32"):
        encoder(crops.float(), present)
    with pytest.raises(ValueError, match="video must be uint8"):
        encoder(crops.flatten(0, 1), present)
    with pytest.raises(ValueError, match="video must be uint8"):
        encoder(crops.movedim(2, -1), present)
    with pytest.raises(ValueError, match=r"video_mask must be bool \(2, 3\)"):
        encoder(crops, present[:, :2])
    with pytest.raises(ValueError, match="video_mask must be bool"):
        encoder(crops, present.long())
    with pytest.raises(ValueError, match="micro_batch"):
        Spy(micro_batch=0)


def _rank(rank: int, store: str, crops: Tensor, results: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    encoder = nn.parallel.DistributedDataParallel(ConvVisualEncoder(out_features=8, width=8))
    encoder(crops, torch.full(crops.shape[:2], rank == 0)).square().sum().backward()
    torch.save([parameter.grad for parameter in encoder.parameters()], f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_rank_without_a_face_does_not_hang_the_other(tmp_path) -> None:
    crops = video(1, 4)
    context = torch.multiprocessing.spawn(
        _rank, args=(str(tmp_path / "store"), crops, str(tmp_path)), nprocs=2, join=False
    )
    if not context.join(timeout=60, grace_period=5) and not context.join(timeout=60, grace_period=5):
        for process in context.processes:
            process.kill()
        pytest.fail("the ranks hang")
    torch.manual_seed(0)
    encoder = ConvVisualEncoder(out_features=8, width=8)
    encoder(crops, torch.ones(1, 4, dtype=torch.bool)).square().sum().backward()
    for rank in range(2):
        for parameter, mean in zip(encoder.parameters(), torch.load(tmp_path / f"{rank}.pt"), strict=True):
            torch.testing.assert_close(mean, parameter.grad / 2)


def test_compiled_networks_see_one_shape(mask: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, options = [], {}

    def compile(function, **given):
        options.update(given)
        return lambda frames: compiled.append(frames.shape) or function(frames)

    monkeypatch.setattr(torch, "compile", compile)
    encoder, plain = Spy(), Spy()
    plain.load_state_dict(encoder.state_dict())
    encoder.compile()
    crops = video(*mask.shape)
    with torch.no_grad():
        torch.testing.assert_close(encoder(crops, mask), plain(crops, mask))
    assert len(compiled) >= 2
    assert {shape[0] for shape in compiled} == {encoder.micro_batch}
    assert options["dynamic"] is False
    compiled.clear()
    encoder(crops, mask)  # with gradients
    assert not compiled
