import math

import pytest
import torch
from torch import nn

from abaw.fusion.layer import SafeTransformerLayer
from abaw.fusion.position import sinusoidal_position


def test_equals_torchs_pre_norm_layer_where_something_is_present() -> None:
    torch.manual_seed(0)
    layer = SafeTransformerLayer(8, 2).eval()
    peer = nn.TransformerEncoderLayer(8, 2, 32, activation="gelu", norm_first=True, batch_first=True).eval()
    attention = layer.attention
    with torch.no_grad():
        peer.self_attn.in_proj_weight.copy_(
            torch.cat([attention.query_proj.weight, attention.key_value_proj.weight])
        )
        peer.self_attn.in_proj_bias.copy_(
            torch.cat([attention.query_proj.bias, attention.key_value_proj.bias])
        )
    peer.self_attn.out_proj.load_state_dict(attention.out_proj.state_dict())
    for theirs, ours in [
        (peer.norm1, layer.norm),
        (peer.norm2, layer.feed_forward[0]),
        (peer.linear1, layer.feed_forward[1]),
        (peer.linear2, layer.feed_forward[4]),
    ]:
        theirs.load_state_dict(ours.state_dict())

    x = torch.randn(3, 6, 8)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [False, True] * 3])
    expected = peer(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(layer(x, mask)[mask], expected[mask], atol=1e-6, rtol=0)


def test_takes_in_a_context() -> None:
    torch.manual_seed(0)
    layer = SafeTransformerLayer(8, 2).eval()
    x, context, mask = torch.randn(2, 4, 8), torch.randn(2, 3, 8), torch.ones(2, 4, dtype=torch.bool)
    some = torch.tensor([[True, True, False], [False, False, False]])
    attended = x + layer.attention(layer.norm(x), context, mask, some)
    torch.testing.assert_close(layer(x, mask, context, some), attended + layer.feed_forward(attended))
    torch.testing.assert_close(layer(x, mask, context, some)[1], layer(x, mask)[1])


def test_turns_queries_and_keys_by_their_positions() -> None:
    torch.manual_seed(0)
    layer = SafeTransformerLayer(8, 2).double().eval()
    x, context = torch.randn(2, 1, 5, 8, dtype=torch.float64)
    time = torch.tensor([0.0, 0.1, 0.2, 0.5, 0.6], dtype=torch.float64)
    mask, heard = torch.ones(1, 5, dtype=torch.bool), torch.tensor([[True, False, True, True, True]])

    query = layer.norm(x)[0]
    q, attention = layer.attention.query_proj(query), layer.attention
    k, v = attention.key_value_proj(context[0]).chunk(2, dim=-1)
    result = torch.zeros(5, 8, dtype=torch.float64)
    for head in (slice(0, 4), slice(4, 8)):
        for i in range(5):
            scores = torch.full((5,), -math.inf, dtype=torch.float64)
            for j in (0, 2, 3, 4):
                # A pair of values, turned by an angle: the real part of a · conj(b) · e^(i · angle).
                angle = 30 * (time[i] - time[j]) / torch.tensor([1.0, 100.0], dtype=torch.float64)
                a, b = torch.complex(*q[i, head].chunk(2)), torch.complex(*k[j, head].chunk(2))
                scores[j] = (a * b.conj() * torch.polar(torch.ones_like(angle), angle)).real.sum() / 2
            result[i, head] = scores.softmax(dim=0) @ v[:, head]
    attended = x[0] + attention.out_proj(result)
    expected = attended + layer.feed_forward(attended)

    rotation = sinusoidal_position(time[None], 4)
    torch.testing.assert_close(layer(x, mask, context, heard, rotation)[0], expected)


@pytest.mark.parametrize(("frames", "size"), [(5, 8), (6, 4)])
def test_refuses_positions_that_do_not_fit(frames: int, size: int) -> None:
    x, mask = torch.randn(1, 5, 8), torch.ones(1, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"rotation must be \(batch, time, 4\)"):
        SafeTransformerLayer(8, 2)(x, mask, rotation=torch.zeros(1, frames, size))
    with pytest.raises(ValueError, match=r"equally long: got .* for 5 and 3 tokens"):
        SafeTransformerLayer(8, 2)(x, mask, x[:, :3], mask[:, :3], torch.zeros(1, 5, 4))
