"""Where a network's files are looked for, and that nobody waits for a network that is not there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
import torch
from huggingface_hub import constants, get_session
from safetensors.torch import load_file, save_file

from abaw.encoders import HFAudioEncoder, HFVisualEncoder, hf_source
from abaw.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were asked for; nobody answers."""
    addresses: list[str] = []

    def fail(self: httpx.Client, request: httpx.Request, **_: object) -> NoReturn:
        addresses.append(str(request.url))
        raise httpx.ConnectError("no network")

    monkeypatch.setattr(httpx.Client, "send", fail)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    get_session()
    return addresses


@pytest.fixture
def cached(beit_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A name on the hub whose files are in the cache."""
    home = tmp_path / "hub" / "models--somebody--something"
    shutil.copytree(beit_folder, home / "snapshots" / "0123456789abcdef0123456789abcdef01234567")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return "somebody/something"


def test_the_hub_is_asked_once(asked: list[str]) -> None:
    with pytest.raises(InputError, match="which can't be reached"):
        HFVisualEncoder("nobody/nothing")
    assert asked.count(constants.ENDPOINT) == 1  # beside what its client asks for of its own accord
    assert not [address for address in asked if "nothing" in address]


@pytest.mark.parametrize(
    "name", ["./not/here", "/not/here", "~/not-here", "not/here/either", "abaw/not-here"]
)
def test_for_a_folder_nobody_asks_the_hub(
    name: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError):
        HFVisualEncoder(name)
    assert not asked


def test_what_is_in_the_cache_needs_no_network(asked: list[str], cached: str) -> None:
    encoder = HFVisualEncoder(cached)
    assert asked.count(constants.ENDPOINT) == 1
    assert not [address for address in asked if cached in address]
    assert encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert encoder.provenance()["model_name"] == cached


def test_a_revision_is_pinned(asked: list[str], cached: str, tmp_path: Path) -> None:
    home = tmp_path / "hub" / "models--somebody--something" / "snapshots"
    (newest,) = home.iterdir()
    pinned = home / ("f" * 40)
    shutil.copytree(newest, pinned)
    preprocessor = json.loads((pinned / "preprocessor_config.json").read_text())
    (pinned / "preprocessor_config.json").write_text(json.dumps(preprocessor | {"image_mean": [0.5] * 3}))
    weights = load_file(pinned / "model.safetensors")
    save_file(
        {k: torch.zeros_like(v) for k, v in weights.items()}, pinned / "model.safetensors", {"format": "pt"}
    )
    encoder = HFVisualEncoder(cached, revision=pinned.name)
    assert encoder.provenance()["revision"] == pinned.name
    assert encoder.mean.flatten().tolist() == [0.5] * 3
    assert not any(p.any() for name, p in encoder.named_parameters() if "pooler" not in name)
    assert encoder.describe()["init_args"]["revision"] == pinned.name
    assert encoder.architecture()["made_from"]["revision"] == pinned.name
    plain = HFVisualEncoder(cached)
    assert plain.provenance()["revision"] == newest.name
    assert any(p.any() for name, p in plain.named_parameters() if "pooler" not in name)
    with pytest.raises(InputError, match=rf"cannot load the encoder '{cached}'"):
        HFVisualEncoder(cached, revision="e" * 40)


def test_what_is_not_from_the_hub_has_no_revision(beit_folder: Path) -> None:
    with pytest.raises(InputError, match=r"revision 'v1' is one of the hub, but .* leave revision out"):
        HFVisualEncoder(str(beit_folder), revision="v1")
    with pytest.raises(InputError, match=r"revision 'v1' is one of the hub"):
        HFAudioEncoder(pretrained=False, config_overrides={"model_type": "wavlm"}, revision="v1")


def test_a_folder_of_the_owners_name_hides_no_cached_network(
    asked: list[str], cached: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebody").mkdir()
    assert HFVisualEncoder(cached).out_features == 16


def test_home_is_understood(beit_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(beit_folder.parent))
    encoder = HFVisualEncoder(f"~/{beit_folder.name}")
    video, mask = torch.zeros(1, 1, 3, 32, 32, dtype=torch.uint8), torch.ones(1, 1, dtype=torch.bool)
    torch.testing.assert_close(encoder(video, mask), HFVisualEncoder(str(beit_folder))(video, mask))


@pytest.mark.parametrize(("version", "told"), [("4.57.6", "and 4.57.6 is installed"), ("5.9.0", "5.9.0")])
def test_another_transformers_is_told(version: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.__version__", version)
    with pytest.raises(InputError, match=rf"{told}.*pip install 'abaw\[pretrained\]'"):
        HFVisualEncoder("somebody/something")


@pytest.mark.parametrize("package", ["transformers", "huggingface_hub"])
def test_without_transformers_it_says_what_to_install(package: str) -> None:
    code = f"""
import sys
sys.modules[{package!r}] = None
from abaw.encoders import HFAudioEncoder
from abaw.errors import InputError
try:
    HFAudioEncoder()
except InputError as error:
    assert "pip install 'abaw[pretrained]'" in str(error), error
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 7


def test_the_oldest_transformers_is_what_the_extra_asks_for() -> None:
    assert f'"transformers>={".".join(map(str, hf_source.OLDEST))},' in (ROOT / "pyproject.toml").read_text()
