import math
import warnings

import pytest
import torch
from torch import Tensor

from abaw.encoders import LogMelEncoder

RATE = 16000


@pytest.fixture
def encoder() -> LogMelEncoder:
    torch.manual_seed(0)
    return LogMelEncoder(out_features=16, n_mels=40)


def every(step: float, seconds: float) -> Tensor:
    return torch.arange(0, seconds, step)[None]


def read(encoder: LogMelEncoder, audio: Tensor, time: Tensor) -> Tensor:
    time = time.expand(len(audio), -1)
    return encoder(audio, time, torch.ones_like(time, dtype=torch.bool))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * 0.05


@pytest.mark.parametrize("click", [0.5, 0.707, 1.2345])
def test_a_click_shows_at_its_own_time_and_nowhere_far(encoder: LogMelEncoder, click: float) -> None:
    with torch.no_grad():
        for (
            layer
        ) in encoder.network:  # kernels without a direction, so that the response has its middle at the click
            if isinstance(layer, torch.nn.Conv1d):
                layer.weight.copy_((layer.weight + layer.weight.flip(-1)) / 2)
    time = every(0.005, 2.0)
    quiet = noise(1, 2 * RATE) / 100
    loud = quiet.clone()
    loud[0, round(click * RATE)] = 1.0
    change = (read(encoder, loud, time) - read(encoder, quiet, time))[0].detach().abs().sum(dim=1)
    assert (change * time[0]).sum() / change.sum() == pytest.approx(click, abs=0.004)
    assert change[(time[0] - click).abs() > 0.2].max() < 1e-4 * change.max()


def test_features_go_with_the_sound_when_it_is_shifted(encoder: LogMelEncoder) -> None:
    sound, time = noise(1, 3 * RATE), every(0.033, 2.0) + 0.5
    start = 12 * 320  # a multiple of the features' own step
    whole, part = read(encoder, sound, time), read(encoder, sound[:, start:], time - start / RATE)
    torch.testing.assert_close(part, whole, atol=1e-4, rtol=1e-4)


def test_what_is_far_away_does_not_matter(encoder: LogMelEncoder) -> None:
    sound, time = noise(1, 3 * RATE), every(0.033, 1.0) + 1.0
    other = sound.clone()
    other[:, : int(0.75 * RATE)] = 0
    other[:, int(2.25 * RATE) :] *= 20
    torch.testing.assert_close(read(encoder, other, time), read(encoder, sound, time), atol=1e-5, rtol=1e-5)


def test_batch_mates_do_not_matter(encoder: LogMelEncoder) -> None:
    sound, time = noise(3, 2 * RATE), every(0.033, 2.0)
    alone = torch.cat([read(encoder, clip[None], time) for clip in sound])
    torch.testing.assert_close(read(encoder, sound, time), alone, atol=1e-5, rtol=1e-5)


def test_the_spectrogram_is_that_of_a_float64_sum(encoder: LogMelEncoder) -> None:
    """Band energies of a pure tone against a sum written out, on HTK's mel scale."""
    n = torch.arange(512, dtype=torch.float64)
    tone = torch.sin(2 * math.pi * 1000 * n / RATE)
    hann = 0.5 - 0.5 * torch.cos(2 * math.pi * n / 512)
    frequencies = torch.arange(257, dtype=torch.float64) * RATE / 512
    power = torch.stack(
        [(tone * hann * torch.exp(-2j * math.pi * f * n / RATE)).sum().abs() ** 2 for f in frequencies]
    )
    low, high = (2595 * math.log10(1 + f / 700) for f in (50.0, 8000.0))
    edges = [700 * (10 ** ((low + (high - low) * i / 41) / 2595) - 1) for i in range(42)]
    for band, (left, middle, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        slope = torch.minimum(
            (frequencies - left) / (middle - left), (right - frequencies) / (right - middle)
        )
        energy = (power * slope.clamp(min=0)).sum()
        assert encoder.mel(tone.float()[None])[0, band, 0].item() == pytest.approx(
            energy.item(), rel=1e-3, abs=1e-3
        )


def test_every_default_band_hears_something() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torchaudio warns of empty bands
        LogMelEncoder()


def test_silence_and_full_scale_are_finite(encoder: LogMelEncoder) -> None:
    time = every(0.1, 1.0)
    for audio in (torch.zeros(1, RATE), torch.ones(1, RATE), noise(1, RATE).sign()):
        features = read(encoder, audio, time)
        features.sum().backward()
        assert features.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_half_precision_keeps_the_spectrogram(encoder: LogMelEncoder) -> None:
    audio, time = noise(1, RATE), every(0.1, 1.0)
    exact, spectra = read(encoder, audio, time), []
    encoder.mel.register_forward_hook(lambda module, inputs, output: spectra.append(output))
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            features = read(encoder, audio, time)
        assert features.dtype == torch.float32
        torch.testing.assert_close(features, exact, atol=0.05, rtol=0.05)
    assert all(spectrum.dtype == torch.float32 for spectrum in spectra)
    torch.testing.assert_close(spectra[0], encoder.mel(audio))


def test_absent_sound_gives_zeros_and_zero_gradients(encoder: LogMelEncoder) -> None:
    features = encoder(torch.zeros(1, RATE), every(0.1, 1.0), torch.zeros(1, 10, dtype=torch.bool))
    assert not features.any()
    features.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())
