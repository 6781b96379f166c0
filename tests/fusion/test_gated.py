import math

import pytest
import torch
from torch import nn

from abaw.fusion import GatedFusion


def linear(layer: nn.Linear, values: list[float]) -> list[float]:
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [bias + sum(w * x for w, x in zip(row, values, strict=True)) for row, bias in rows]


def test_is_the_published_unit_where_both_are_present_and_whole_where_one_is() -> None:
    torch.manual_seed(0)
    head = GatedFusion(3, 2, 4, hidden=5).double().eval()
    visual, audio = torch.randn(1, 4, 3, dtype=torch.float64), torch.randn(1, 4, 2, dtype=torch.float64)
    sees, hears = torch.tensor([[True, True, False, False]]), torch.tensor([[True, False, True, False]])
    logits = head(visual, audio, sees, hears)[0]

    for frame, (face, voice) in enumerate([(True, True), (True, False), (False, True), (False, False)]):
        x_v = visual[0, frame].tolist() if face else [0.0] * 3
        x_a = audio[0, frame].tolist() if voice else [0.0] * 2
        h_v, h_a = (
            [math.tanh(h) for h in linear(*given)] for given in ((head.visual, x_v), (head.audio, x_a))
        )
        z = [1 / (1 + math.exp(-score)) for score in linear(head.gate, x_v + x_a)]
        mixed = {
            (True, True): [g * v + (1 - g) * a for g, v, a in zip(z, h_v, h_a, strict=True)],
            (True, False): h_v,
            (False, True): h_a,
            (False, False): [0.0] * 5,
        }[face, voice]
        assert logits[frame].tolist() == pytest.approx(linear(head.classifier[-1], mixed), abs=1e-12)
