import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from abaw.encoders import HFAudioEncoder, HFVisualEncoder
from abaw.errors import InputError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_encoders_import_without_transformers() -> None:
    code = "import sys, abaw.encoders; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("encoder", [HFVisualEncoder, HFAudioEncoder])
@pytest.mark.parametrize(
    ("name", "pretrained", "reason"),
    [
        ("somebody/something", True, "no folder of that name, and of the hub, which can't be reached"),
        ("somebody/something", False, "no folder of that name, and of the hub, which can't be reached"),
        ("something", True, "no folder of that name, and of the hub"),
        ("./not/here", True, "there is no such folder"),
        ("/not/here", False, "there is no such folder"),
        ("not/here/either", True, "there is no such folder"),
        ("~/not-here", True, "there is no such folder"),
        (
            "abaw/not-here",
            True,
            "the folder abaw is here, without a not-here in it .*hf download abaw/not-here",
        ),
        ("README.md", True, "it is a file"),
    ],
)
def test_what_is_not_there_is_named_with_a_way_out(
    encoder: type, name: str, pretrained: bool, reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        encoder(name, pretrained=pretrained)
    assert name in str(caught.value)
    assert "config_overrides with a model_type" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cannot load the encoder '{tmp_path}'"):
        HFVisualEncoder(str(tmp_path))


def test_broken_weights_are_named(beit_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(beit_folder, tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=f"cannot load the encoder '{folder}'"):
        HFVisualEncoder(str(folder))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_hidden_layers": 3}, "weights of its beit network are missing and 0 have another size"),
        ({"intermediate_size": 64}, "0 weights of its beit network are missing and 6 have another size"),
        ({"hidden_sise": 3}, "'hidden_sise' is no entry of transformers' BeitConfig"),
        ({"model_type": "vit"}, "model_type needs pretrained=False"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_overrides_that_do_not_fit_the_checkpoint(
    beit_folder: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        HFVisualEncoder(str(beit_folder), config_overrides=overrides)
    assert "\n" not in str(caught.value)


def test_overrides_of_a_type_are_checked(beit: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="'hidden_sise' is no entry of transformers' BeitConfig"):
        HFVisualEncoder(pretrained=False, config_overrides={**beit, "hidden_sise": 3})
    with pytest.raises(InputError, match="bait"):
        HFVisualEncoder(pretrained=False, config_overrides={"model_type": "bait"})


def test_a_folder_can_lend_its_configuration_alone(beit_folder: Path, tmp_path: Path) -> None:
    shutil.copy(beit_folder / "config.json", tmp_path)
    torch.manual_seed(0)
    first = HFVisualEncoder(str(tmp_path), pretrained=False, config_overrides={"hidden_size": 24})
    torch.manual_seed(0)
    again = HFVisualEncoder(str(tmp_path), pretrained=False, config_overrides={"hidden_size": 24})
    assert first.out_features == 24
    torch.testing.assert_close(first.state_dict(), again.state_dict())


def test_overrides_are_left_as_they_were(beit: dict[str, Any]) -> None:
    before = dict(beit)
    HFVisualEncoder(pretrained=False, config_overrides=beit)
    assert beit == before


def test_a_network_in_the_wrong_slot(beit_folder: Path, wavlm_folder: Path) -> None:
    with pytest.raises(InputError, match="a wavlm network takes no images"):
        HFVisualEncoder(str(wavlm_folder))
    with pytest.raises(InputError, match="a beit network takes no raw sound"):
        HFAudioEncoder(str(beit_folder))


@pytest.mark.parametrize("encoder", [HFVisualEncoder, HFAudioEncoder])
def test_a_checkpoint_without_normalisation_is_warned_of(
    encoder: type, beit_folder: Path, wavlm_folder: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    folder = shutil.copytree(beit_folder if encoder is HFVisualEncoder else wavlm_folder, tmp_path / "copy")
    encoder(str(folder))
    assert not [w for w in recwarn if w.category is UserWarning]
    (folder / "preprocessor_config.json").unlink()
    with pytest.warns(UserWarning, match=r"no preprocessor_config\.json"):
        encoder(str(folder))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_kept_in_the_type_asked_for(beit_folder: Path, dtype: Any) -> None:
    encoder = HFVisualEncoder(str(beit_folder), dtype=dtype)  # saved in half precision
    assert {p.dtype for p in encoder.parameters()} == {getattr(torch, dtype)}
    video = torch.randint(0, 256, (1, 2, 3, 32, 32), dtype=torch.uint8)
    features = encoder(video, torch.ones(1, 2, dtype=torch.bool))
    assert features.dtype == torch.float32
    exact = HFVisualEncoder(str(beit_folder))(video, torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(features, exact, atol=0.1, rtol=0)


@pytest.mark.parametrize("freeze", [True, False])
def test_state_dicts_go_from_one_encoder_to_another(beit: dict[str, Any], freeze: bool) -> None:
    one, other = (HFVisualEncoder(freeze=freeze, pretrained=False, config_overrides=beit) for _ in range(2))
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(dict(other.named_parameters()), dict(one.named_parameters()))
