import math

import pytest
import torch
from torch import Tensor

from abaw.losses import FrameLoss


class Quoted(FrameLoss):
    """Costs what the first logit says, weighted by the class index plus one."""

    def frame_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        weights = (target + 1).to(logits.dtype)
        return weights * logits[:, 0], weights


LOGITS = torch.tensor([[[2.0, 0.0], [3.0, 0.0]], [[math.nan, math.inf], [5.0, 0.0]]])
TARGET = torch.tensor([[0, 1], [-1, 1]])


def test_reduces_over_annotated_frames() -> None:
    assert Quoted(reduction="none")(LOGITS, TARGET).tolist() == [[2.0, 6.0], [0.0, 10.0]]
    assert Quoted(reduction="sum")(LOGITS, TARGET).item() == 18.0
    assert Quoted()(LOGITS, TARGET).item() == pytest.approx(18.0 / 5)
    assert [part.item() for part in Quoted().sum_and_weight(LOGITS, TARGET)] == [18.0, 5.0]


def test_sums_and_weights_of_parts_add_up_to_the_mean_of_the_whole() -> None:
    parts = [Quoted().sum_and_weight(LOGITS[i], TARGET[i]) for i in (0, 1)]
    total, weight = (sum(values) for values in zip(*parts, strict=True))
    torch.testing.assert_close(total / weight, Quoted()(LOGITS, TARGET))


def test_another_ignore_index() -> None:
    assert Quoted(ignore_index=1)(LOGITS[:1], TARGET[:1]).item() == 2.0


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_nothing_annotated_costs_zero_with_a_gradient(reduction: str) -> None:
    logits = torch.full((2, 3, 4), math.nan, requires_grad=True)
    target = torch.full((2, 3), -1)
    loss = Quoted(reduction=reduction)(logits, target)
    assert not loss.any()
    loss.sum().backward()
    assert torch.equal(logits.grad, torch.zeros(2, 3, 4))
    assert [part.item() for part in Quoted().sum_and_weight(logits, target)] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_types_are_computed_in_single_precision(given: torch.dtype, computed: torch.dtype) -> None:
    assert Quoted()(LOGITS.to(given), TARGET).dtype == computed


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="reduction must be"):
        Quoted(reduction="average")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"need targets .* got \(2, 2, 2\) and \(2, 1\)"):
        Quoted()(LOGITS, TARGET[:, :1])
    with pytest.raises(ValueError, match=r"targets must be 0 to 1, or -1 where not annotated; got \[-7, 2\]"):
        Quoted()(LOGITS, torch.tensor([[2, -7], [2, -1]]))
