import torch
from torch import nn

from abaw.fusion.layer import SafeTransformerLayer


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
