import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from abaw.fusion import DualBranchTransformer
from abaw.fusion.dual_branch import Position, PresenceGate

each_position = pytest.mark.parametrize("position", get_args(Position))


def make(fused_layers: int = 1, position: Position = "sinusoidal") -> DualBranchTransformer:
    torch.manual_seed(0)
    head = DualBranchTransformer(3, 2, 4, dim=16, num_heads=2, fused_layers=fused_layers, position=position)
    return head.eval()


def window(frames: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "visual": torch.randn(1, frames, 3, generator=generator),
        "audio": torch.randn(1, frames, 2, generator=generator),
        "video_mask": torch.ones(1, frames, dtype=torch.bool),
        "audio_mask": torch.ones(1, frames, dtype=torch.bool),
        "time": torch.arange(frames)[None] / 30,
    }


def test_neighbours_fill_in_a_frame_where_nothing_is_present() -> None:
    given = window()
    given["video_mask"][:, 2] = given["audio_mask"][:, 2] = False
    louder = given | {"audio": given["audio"] * 2}
    change = {layers: make(layers)(**louder)[0, 2] - make(layers)(**given)[0, 2] for layers in (0, 1)}
    assert not change[0].any()
    assert change[1].abs().max() > 1e-4


def test_the_learned_token_stands_where_nothing_is_present_and_nowhere_else() -> None:
    head, given = make(fused_layers=0), window()
    given["video_mask"][:, 1:3] = given["audio_mask"][:, 2:4] = False
    before = head(**given)
    torch.nn.init.normal_(head.nothing_token)
    assert (head(**given) != before).any(dim=-1).tolist() == [[False, False, True, False, False, False]]


@each_position
def test_frames_where_nothing_is_present_know_their_time(position: Position) -> None:
    given = window()
    given["video_mask"][:, 1:] = given["audio_mask"][:, 1:] = False
    logits = make(position=position)(**given)[0]
    assert (logits[2] - logits[4]).abs().max() > 1e-3


@each_position
def test_frames_know_their_distance_in_time_but_not_the_hour(position: Position) -> None:
    head, given = make(position=position), window()
    logits = head(**given)
    torch.testing.assert_close(head(**given | {"time": given["time"] + 8.0}), logits, atol=1e-4, rtol=0)
    assert (head(**given | {"time": given["time"] * 2}) - logits).abs().max() > 1e-3


def test_rotary_frames_know_distances_alone() -> None:
    # Half a second apart or half a second later: each frame sees the same, as long as all are moved together.
    # A face where all others are the same has nothing but its position to be told by.
    given = window()
    given["visual"][:] = given["visual"][:, :1]
    given["audio"][:] = given["audio"][:, :1]
    spread = {p: make(position=p)(**given)[0].std(dim=0).max() for p in get_args(Position)}
    assert spread["rotary"] < 1e-5
    assert spread["sinusoidal"] > 1e-3


@pytest.mark.parametrize("part", ["visual_branch.layers.0", "visual_cross", "audio_cross", "fused.0"])
def test_every_layer_turns_by_rotary_positions(part: str) -> None:
    head, turned = make(position="rotary"), []
    attention = head.get_submodule(f"{part}.attention")
    attention.register_forward_hook(
        lambda module, args, kwargs, result: turned.append(kwargs["rotation"]), with_kwargs=True
    )
    head(**window())
    angle = window()["time"][0, :, None] * 30 * torch.tensor([1.0, 0.1, 0.01, 0.001])
    torch.testing.assert_close(turned[0][0], torch.cat([angle.sin(), angle.cos()], dim=-1))


def test_a_frame_hears_the_sound_of_other_frames() -> None:
    # Cross-attention: without fused layers, the audio of frame 5 reaches a frame without sound of its own.
    head, given = make(fused_layers=0), window()
    given["audio_mask"][:, 0] = False
    changed = given["audio"].clone()
    changed[:, 5] += 1
    assert (head(**given | {"audio": changed}) - head(**given))[0, 0].abs().max() > 1e-4


def test_gate_weighs_what_is_present() -> None:
    torch.manual_seed(0)
    gate = PresenceGate(4).double()
    streams = torch.randn(1, 4, 2, 4, dtype=torch.float64)
    present = torch.tensor([[[True, True], [True, False], [False, True], [False, False]]])
    mixed = gate(streams, present)[0]

    pair = torch.cat([streams[0, 0, 0], streams[0, 0, 1]])
    scores = [math.exp(gate.score(pair)[i].item()) for i in (0, 1)]
    expected = [score / sum(scores) for score in scores]
    torch.testing.assert_close(mixed[0], expected[0] * streams[0, 0, 0] + expected[1] * streams[0, 0, 1])
    assert torch.equal(mixed[1], streams[0, 1, 0])
    assert torch.equal(mixed[2], streams[0, 2, 1])
    assert not mixed[3].any()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"dim": 15, "num_heads": 3}, "^dim must be even.* 15"),
        ({"num_heads": 5}, "num_heads must divide"),
        ({"num_heads": 5, "position": "rotary"}, "num_heads must divide"),
        ({"dim": 12, "num_heads": 4, "position": "rotary"}, "dim / num_heads must be even.* 3"),
        ({"position": "rotatory"}, "position must be one of sinusoidal, rotary; got 'rotatory'"),
    ],
)
def test_refuses_wrong_sizes(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DualBranchTransformer(3, 2, 4, **sizes)


def test_learns_to_use_both_modalities() -> None:
    # The class is the sum of a face's bit and a voice's bit: neither alone tells.
    torch.manual_seed(0)
    head = DualBranchTransformer(2, 2, 3, dim=16, num_heads=2, dropout=0.0)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    everywhere = torch.ones(32, 8, dtype=torch.bool)
    for _ in range(100):
        face, voice = torch.randint(2, (2, 32, 8))
        logits = head(one_hot(face, 2).float(), one_hot(voice, 2).float(), everywhere, everywhere)
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), (face + voice).flatten()).backward()
        optimizer.step()
    assert (logits.argmax(dim=-1) == face + voice).float().mean() > 0.95
