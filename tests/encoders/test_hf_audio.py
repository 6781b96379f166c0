import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from waiting import NothingFromTheHost

from abaw.encoders import HFAudioEncoder
from abaw.errors import InputError

RATE = 16000


def noise(*shape: int) -> Tensor:
    return 0.1 + 0.05 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def present(time: Tensor) -> Tensor:
    return torch.ones_like(time, dtype=torch.bool)


def test_features_are_those_of_transformers_interpolated_by_hand(wavlm_folder: Path) -> None:
    from transformers import WavLMModel

    audio, time = noise(2, RATE), torch.rand(2, 40) * 0.9 + 0.03
    features = HFAudioEncoder(str(wavlm_folder))(audio, time, present(time))
    model = WavLMModel.from_pretrained(wavlm_folder).eval()
    for b in range(2):
        clip = audio[b].double().numpy()
        clip = torch.from_numpy((clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)).float()
        with torch.no_grad():
            hidden = model(clip[None]).last_hidden_state[0].double()
        for t in range(40):
            position = (time[b, t].item() - 200 / RATE) / (320 / RATE)
            k = int(position)
            expected = (k + 1 - position) * hidden[k] + (position - k) * hidden[k + 1]
            torch.testing.assert_close(features[b, t].double(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kernels", [None, ([8, 3], [4, 2])])
def test_features_are_centred_on_what_they_see(wavlm: dict[str, Any], kernels: Any) -> None:
    if kernels is not None:
        wavlm |= {"conv_kernel": kernels[0], "conv_stride": kernels[1], "conv_dim": [8, 8]}
    encoder = HFAudioEncoder(pretrained=False, config_overrides={**wavlm, "feat_extract_norm": "layer"})
    audio = noise(1, 4000).requires_grad_()
    extracted = encoder.backbone.model.feature_extractor(audio)
    for k in (0, 3, extracted.shape[2] - 1):
        (gradient,) = torch.autograd.grad(extracted[0, :, k].square().sum(), audio, retain_graph=True)
        seen = gradient[0].nonzero().flatten()
        middle = (seen.min() + seen.max() + 1).item() / 2
        assert middle == encoder.stride * k + encoder.span / 2
    if kernels is None:
        assert (encoder.span, encoder.stride) == (400, 320)


def test_a_click_shows_at_its_own_time(wavlm: dict[str, Any]) -> None:
    encoder = HFAudioEncoder(pretrained=False, config_overrides={**wavlm, "feat_extract_norm": "layer"})

    class Convolutions(nn.Module):
        """The part of the network that has a place in time: its transformer looks everywhere."""

        def __init__(self, extractor: nn.Module) -> None:
            super().__init__()
            self.extractor = extractor

        def forward(self, audio: Tensor) -> Tensor:
            return self.extractor(audio).transpose(1, 2)

    encoder.backbone, encoder.normalise = Convolutions(encoder.backbone.model.feature_extractor), False
    time = torch.arange(0, 2, 0.005)[None]
    for click in (0.5, 1.234):
        quiet = noise(1, 2 * RATE) / 100
        loud = quiet.clone()
        loud[0, round(click * RATE)] += 1
        change = (
            (encoder(loud, time, present(time)) - encoder(quiet, time, present(time)))[0].abs().sum(dim=1)
        )
        assert ((change * time[0]).sum() / change.sum()).item() == pytest.approx(click, abs=0.01)


@pytest.mark.parametrize(
    ("do_normalize", "norm"), [(False, "layer"), (True, "group"), (None, "layer"), (None, "group")]
)
def test_normalisation_comes_from_the_checkpoint(
    wavlm_folder: Path, tmp_path: Path, do_normalize: bool | None, norm: str
) -> None:
    folder = shutil.copytree(wavlm_folder, tmp_path / "copy")
    if do_normalize is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": do_normalize}))
    else:
        (folder / "preprocessor_config.json").unlink()
    encoder = HFAudioEncoder(str(folder), pretrained=False, config_overrides={"feat_extract_norm": norm})
    heard: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda module, inputs: heard.append(inputs[0]))
    audio, time = noise(2, RATE), torch.tensor([[0.5]]).expand(2, 1)
    audio[1] *= 7
    encoder(audio, time, present(time))
    if do_normalize if do_normalize is not None else norm == "layer":
        torch.testing.assert_close(heard[0].mean(dim=1), torch.zeros(2), atol=1e-4, rtol=0)
        torch.testing.assert_close(heard[0].std(dim=1), torch.ones(2), atol=1e-3, rtol=0)
    else:
        torch.testing.assert_close(heard[0], audio)


def test_tells_where_it_comes_from(wavlm_folder: Path) -> None:
    expected = {"model_name": str(wavlm_folder), "revision": None, "normalise": True}
    assert HFAudioEncoder(str(wavlm_folder)).provenance() == expected


def test_another_sampling_rate_is_refused(wavlm_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(wavlm_folder, tmp_path / "copy")
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 24000}))
    with pytest.raises(InputError, match="wants sound at 24000 Hz"):
        HFAudioEncoder(str(folder))


def test_batch_mates_and_absent_sound(wavlm: dict[str, Any]) -> None:
    encoder = HFAudioEncoder(pretrained=False, config_overrides=wavlm)
    audio, time = noise(3, RATE), torch.rand(3, 8)
    mask = torch.rand(3, 8) < 0.6
    features = encoder(audio, time, mask)
    assert not features[~mask].any()
    assert features[mask].abs().amin(dim=0).any()
    for b in range(3):
        alone = encoder(audio[b : b + 1], time[b : b + 1], mask[b : b + 1])
        torch.testing.assert_close(alone[0], features[b], atol=1e-5, rtol=1e-4)


def test_a_frozen_network_stays_as_it_is(wavlm: dict[str, Any]) -> None:
    encoder = HFAudioEncoder(pretrained=False, config_overrides=wavlm)
    audio, time = noise(1, RATE), torch.rand(1, 8)
    calm = encoder.eval()(audio, time, present(time))
    nn.ModuleList([encoder]).train()
    assert not any(module.training for module in encoder.backbone.modules())
    torch.testing.assert_close(encoder(audio, time, present(time)), calm)
    assert not calm.requires_grad


@pytest.mark.parametrize("any_sound", [True, False])
def test_a_trainable_network_gives_every_parameter_a_gradient(wavlm_folder: Path, any_sound: bool) -> None:
    """Also with a checkpoint whose layer drop is 0.9 and that masks half of the time."""
    encoder = HFAudioEncoder(str(wavlm_folder), freeze=False).train()
    audio, time = noise(1, RATE), torch.rand(1, 8)
    encoder(audio, time, present(time) & any_sound).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name


@pytest.mark.parametrize("model_type", ["wav2vec2", "hubert", "data2vec-audio"])
def test_its_relatives_work_too(wavlm: dict[str, Any], model_type: str) -> None:
    overrides = {**wavlm, "model_type": model_type, "feat_extract_norm": "layer"}
    if model_type == "data2vec-audio":
        for entry in ("feat_extract_norm", "num_conv_pos_embeddings"):
            overrides.pop(entry)
    encoder = HFAudioEncoder(pretrained=False, config_overrides=overrides)
    time = torch.rand(1, 8)
    assert encoder(noise(1, RATE), time, present(time)).shape == (1, 8, 16)


def test_bf16_autocast_stays_close(wavlm: dict[str, Any]) -> None:
    encoder = HFAudioEncoder(freeze=False, pretrained=False, config_overrides=wavlm).eval()
    audio, time = noise(1, RATE), torch.rand(1, 8)
    exact = encoder(audio, time, present(time))
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(audio, time, present(time))
    features.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)
    torch.testing.assert_close(features, exact, atol=0.15, rtol=0)


@torch.no_grad()
def test_nothing_waits_for_a_copy_of_its_positions(wavlm: dict[str, Any]) -> None:
    encoder = HFAudioEncoder(pretrained=False, config_overrides=wavlm).to("meta")
    with NothingFromTheHost():
        encoder.encode_sound(torch.zeros(2, RATE, device="meta"))


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 49, 2000])  # the farthest bucket begins at 800
def test_positions_are_those_of_transformers(wavlm: dict[str, Any], length: int) -> None:
    attention = (
        HFAudioEncoder(pretrained=False, config_overrides=wavlm).backbone.model.encoder.layers[0].attention
    )
    expected = type(attention).compute_bias(attention, length, length)
    assert torch.equal(attention.compute_bias(length, length), expected)
