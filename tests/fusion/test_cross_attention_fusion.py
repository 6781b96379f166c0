import pytest
import torch
from torch import Tensor

from abaw.fusion import CrossAttentionFusion


def make() -> CrossAttentionFusion:
    torch.manual_seed(0)
    return CrossAttentionFusion(3, 2, 4, dim=16, num_heads=2).eval()


def features() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    visual, audio = torch.randn(1, 6, 3, generator=generator), torch.randn(1, 6, 2, generator=generator)
    return visual, audio, torch.ones(1, 6, dtype=torch.bool)


def test_what_is_missing_is_zeros_that_are_attended_to() -> None:
    head, (visual, audio, there) = make(), features()
    sees, hears = torch.arange(6)[None] % 2 == 0, torch.zeros_like(there)
    zeros = head(visual * sees[..., None], torch.zeros_like(audio), there, there)
    assert torch.equal(head(visual, audio, sees, hears), zeros)


@pytest.mark.parametrize("stream", ["visual", "audio"])
def test_each_stream_takes_in_the_other_from_other_frames(stream: str) -> None:
    head, (visual, audio, there) = make(), features()
    with torch.no_grad():  # what is left of the classifier looks at one stream alone
        head.classifier[1].weight[:, slice(16, 32) if stream == "visual" else slice(0, 16)] = 0
    given = {"visual": visual, "audio": audio}
    other = "audio" if stream == "visual" else "visual"
    changed = given[other].clone()
    changed[:, 5] = -changed[:, 5]
    after = head(**given | {other: changed}, video_mask=there, audio_mask=there)
    before = head(**given, video_mask=there, audio_mask=there)
    # The classifier's norm spans both streams: frame 5 itself is no evidence, the others are.
    assert (after - before)[0, :5].abs().max() > 1e-4


def test_refuses_an_odd_size() -> None:
    with pytest.raises(ValueError, match="dim must be even"):
        CrossAttentionFusion(3, 2, 4, dim=15, num_heads=3)
