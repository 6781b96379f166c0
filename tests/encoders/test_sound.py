import math

import pytest
import torch
from torch import Tensor

from abaw.encoders import SoundEncoder

SPAN, STRIDE = 400, 320


class Table(SoundEncoder):
    """Gives the features that it was told to, whatever the sound."""

    def __init__(self, features: Tensor) -> None:
        super().__init__(features.shape[2], span=SPAN, stride=STRIDE)
        self.features = features

    def encode_sound(self, audio: Tensor) -> Tensor:
        return self.features


def reference(features: Tensor, seconds: float) -> Tensor:
    """Walk from centre to centre in float64."""
    centres = [(STRIDE * k + SPAN / 2) / 16000 for k in range(len(features))]
    if seconds <= centres[0]:
        return features[0].double()
    for k in range(len(features) - 1):
        if seconds <= centres[k + 1]:
            share = (seconds - centres[k]) / (centres[k + 1] - centres[k])
            return (1 - share) * features[k].double() + share * features[k + 1].double()
    return features[-1].double()


def test_features_are_interpolated_at_the_frames_times() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 20, 4)
    time = torch.rand(3, 50) * 0.5 - 0.05  # before the first centre and after the last ones too
    read = Table(features)(torch.zeros(3, 8000), time, torch.ones(3, 50, dtype=torch.bool))
    for b in range(3):
        for t in range(50):
            expected = reference(features[b], time[b, t].item())
            torch.testing.assert_close(read[b, t].double(), expected, atol=1e-5, rtol=0)


def test_one_feature_is_held() -> None:
    time = torch.tensor([[-1.0, 0.0, 5.0]])
    read = Table(torch.full((1, 1, 2), 3.0))(torch.zeros(1, SPAN), time, torch.ones(1, 3, dtype=torch.bool))
    assert (read == 3).all()


def test_no_sound_no_features_no_gradient_and_no_look_at_the_time() -> None:
    features = torch.randn(1, 4, 2, requires_grad=True)
    time = torch.tensor([[0.02, math.nan, math.inf]])
    read = Table(features)(torch.zeros(1, 2000), time, torch.tensor([[True, False, False]]))
    assert read[0, 0].all()
    assert not read[0, 1:].any()
    read[0, 1:].sum().backward()
    assert features.grad is not None
    assert not features.grad.any()


def test_misuse_is_told_in_words() -> None:
    encoder = Table(torch.zeros(2, 4, 1))
    audio, time, present = torch.zeros(2, 2000), torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"audio must be floating point \(B, S\)"):
        encoder(audio[:, None], time, present)
    with pytest.raises(ValueError, match="audio must be floating point"):
        encoder(audio.short(), time, present)
    with pytest.raises(ValueError, match="audio has 399 samples, one feature takes 400"):
        encoder(audio[:, :399], time, present)
    with pytest.raises(ValueError, match=r"time must be \(2, T\)"):
        encoder(audio, time[:1], present[:1])
    with pytest.raises(ValueError, match=r"audio_mask must be bool \(2, 3\)"):
        encoder(audio, time, present[:, :2])
    with pytest.raises(ValueError, match="audio_mask must be bool"):
        encoder(audio, time, present.float())


def test_compiled_networks_see_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, dynamic: lambda audio: compiled.append((audio.shape[0], dynamic)) or function(audio),
    )
    encoder, plain = Loudness(), Loudness()
    encoder.compile()
    for batch in (2, 3, 1):
        audio = torch.rand(batch, 3200)
        time, mask = torch.rand(batch, 4) / 5, torch.ones(batch, 4, dtype=torch.bool)
        with torch.no_grad():
            torch.testing.assert_close(encoder(audio, time, mask), plain(audio, time, mask))
    assert compiled == [(2, False), (3, False), (3, False)]
    encoder(audio, time, mask)  # with gradients
    assert len(compiled) == 3


class Loudness(SoundEncoder):
    """The mean magnitude of every 100 ms."""

    def __init__(self) -> None:
        super().__init__(out_features=1, span=1600, stride=1600)

    def encode_sound(self, audio: Tensor) -> Tensor:
        return audio.unfold(1, 1600, 1600).abs().mean(dim=2, keepdim=True)
