"""An encoder that draws, or looks at its batch mates, is refused where it is first used."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from abaw.encoders import (
    AudioEncoder,
    FrameEncoder,
    HFVisualEncoder,
    LogMelEncoder,
    SoundEncoder,
    VisualEncoder,
)
from abaw.encoders.repeatable import check_repeatable
from abaw.errors import InputError

VIDEO = torch.randint(0, 256, (2, 4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
AUDIO = torch.randn(2, 3200, generator=torch.Generator().manual_seed(0)) * 0.1
TIME = 0.05 + torch.arange(4).repeat(2, 1) / 25
MASK = torch.tensor([[False, False, False, False], [False, True, True, False]])


def means(video: Tensor) -> Tensor:
    return video.float().mean(dim=(-1, -2)) / 255


class Visual(VisualEncoder):
    """Looks at whole windows; ``kind`` says how it does wrong."""

    out_features = 3

    def __init__(self, kind: str = "") -> None:
        super().__init__()
        self.kind = kind
        self.calls = 0
        self.norm = nn.BatchNorm1d(3)

    def forward(self, video: Tensor, video_mask: Tensor) -> Tensor:
        self.calls += 1
        features = means(video)
        if self.kind == "draws":
            features = features + torch.randn_like(features)
        if self.kind == "wastes":
            torch.randn(7)  # as layer drop does, which then drops nothing
        if self.kind == "drops":
            features = nn.functional.dropout(features, 0.9, training=True)
        if self.kind == "batch":
            features = features - features.mean(dim=(0, 1))
        if self.kind == "batch norm":
            features = self.norm.train()(features.flatten(0, 1)).view_as(features)
        if self.kind == "time":
            features = features.cumsum(dim=1)  # its own frames are its own affair
        return features * video_mask[..., None]


class Frames(FrameEncoder):
    def __init__(self, kind: str) -> None:
        super().__init__(out_features=3, micro_batch=3)
        self.kind = kind

    def encode_frames(self, frames: Tensor) -> Tensor:
        features = means(frames)
        if self.kind == "batch":
            features = features / features.norm()
        return features + (torch.rand(3) if self.kind == "draws" else 0)


class Audio(AudioEncoder):
    out_features = 1

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, audio: Tensor, time: Tensor, audio_mask: Tensor) -> Tensor:
        loudness = audio.abs().mean(dim=1)
        if self.kind == "batch":
            loudness = loudness / loudness.amax()
        if self.kind == "draws":
            loudness = loudness * torch.rand(())
        return (loudness[:, None] * audio_mask)[..., None]


class Sound(SoundEncoder):
    def __init__(self, kind: str) -> None:
        super().__init__(out_features=1, span=400, stride=400)
        self.kind = kind

    def encode_sound(self, audio: Tensor) -> Tensor:
        features = audio.unfold(1, 400, 400).abs().mean(dim=2, keepdim=True)
        if self.kind == "batch":
            features = features - features.mean()
        return features + (torch.rand(()) if self.kind == "draws" else 0)


def check(encoder: Any, mask: Tensor = MASK) -> bool:
    if isinstance(encoder, VisualEncoder):
        return check_repeatable(encoder.eval(), VIDEO, mask)
    return check_repeatable(encoder.eval(), AUDIO, TIME, mask)


@pytest.mark.parametrize("kind", [Visual, Frames, Audio, Sound])
def test_random_features_are_refused(kind: type) -> None:
    with pytest.raises(InputError, match=rf"{kind.__name__}: the same input gives other features") as caught:
        check(kind("draws"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Visual, Frames, Audio, Sound])
def test_features_of_the_batch_are_refused(kind: type) -> None:
    with pytest.raises(InputError, match=rf"{kind.__name__}: in evaluation, .* change with the others"):
        check(kind("batch"))


@pytest.mark.parametrize(("kind", "told"), [("drops", "same input"), ("batch norm", "batch norm")])
def test_the_usual_causes(kind: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        check(Visual(kind))


@pytest.mark.parametrize(
    "encoder",
    [Visual("time"), Visual("wastes"), Visual(), Frames(""), Audio(""), Sound(""), LogMelEncoder(8)],
)
def test_sound_ones_pass_and_leave_no_trace(encoder: Any) -> None:
    drawn = torch.get_rng_state()
    assert check(encoder)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert getattr(encoder, "calls", 0) == 0


def test_where_nothing_is_present_nothing_is_told() -> None:
    assert not check(Visual("draws"), torch.zeros_like(MASK))
    assert not check(Audio("draws"), torch.zeros_like(MASK))


class Rounds(Audio):
    """A kernel that adds up in another order at every call: the last digit of its type is another one."""

    def forward(self, audio: Tensor, time: Tensor, audio_mask: Tensor) -> Tensor:
        features = super().forward(audio, time, audio_mask).to(torch.bfloat16)
        return (features * (1 + (torch.rand(()) < 0.5) * torch.finfo(torch.bfloat16).eps)).float()


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_the_last_digit_of_half_precision_may_change(how: str) -> None:
    encoder = Rounds("")
    torch.manual_seed(0)  # draws another one each time
    with pytest.raises(InputError, match="same input"):
        check(encoder)
    if how == "weights":
        encoder.weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        assert check(encoder)


def test_what_is_compiled_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two samples, and every later one would be filled up to two.
    seen: list[int] = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda x: seen.append(len(x)) or function(x))
    encoder = LogMelEncoder(8).eval()
    encoder.compile()
    alone = [value[1:] for value in (AUDIO, TIME, MASK)]
    with torch.no_grad():
        encoder(*alone)
        assert check_repeatable(encoder, *alone)
        encoder(*alone)
    assert seen == [1, 1]


def test_half_precision_may_round(beit: dict[str, Any]) -> None:
    encoder = HFVisualEncoder(pretrained=False, config_overrides=beit, dtype="bfloat16")
    assert check(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        assert check(HFVisualEncoder(pretrained=False, config_overrides=beit))


def test_vit_mae_is_told_where_it_hides_patches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("abaw.encoders.hf_loading._see_all_patches", lambda model: None)
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    overrides = {"model_type": "vit_mae", "image_size": 32, "patch_size": 8, **tiny}
    with pytest.raises(InputError, match="HFVisualEncoder: the same input"):
        check(HFVisualEncoder(pretrained=False, config_overrides=overrides))
