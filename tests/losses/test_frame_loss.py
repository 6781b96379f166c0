import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from abaw.losses import FocalLoss, FrameLoss


class Quoted(FrameLoss):
    """Costs what the first logit says, weighted by the class index plus one."""

    def class_losses(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        weights = 1 + torch.arange(logits.shape[1], dtype=logits.dtype)
        return weights * logits[:, :1], weights


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


SOFT = torch.tensor([[[1.0, 0.0], [0.25, 0.75]], [[0.0, 0.0], [0.0, 1.0]]])


def test_soft_targets_share_the_costs_of_the_classes() -> None:
    assert Quoted(reduction="none")(LOGITS, SOFT).tolist() == [[2.0, 0.25 * 3 + 0.75 * 6], [0.0, 10.0]]
    assert [part.item() for part in Quoted().sum_and_weight(LOGITS, SOFT)] == [17.25, 1 + 1.75 + 2]
    certain = F.one_hot(TARGET.clamp_min(0), 2) * (TARGET != -1)[..., None]
    for reduction in ("none", "mean", "sum"):
        loss = Quoted(label_smoothing=0.3, reduction=reduction)
        torch.testing.assert_close(loss(LOGITS, certain.half()), loss(LOGITS, TARGET))


def test_smoothing_spreads_the_target_over_all_classes() -> None:
    loss = Quoted(label_smoothing=0.2, reduction="none")
    # The classes cost 2 and 4, then 3 and 6, then 5 and 10.
    expected = [[0.9 * 2 + 0.1 * 4, 0.1 * 3 + 0.9 * 6], [0.0, 0.1 * 5 + 0.9 * 10]]
    torch.testing.assert_close(loss(LOGITS, TARGET), torch.tensor(expected))
    # The weights that the mean divides by are not smoothed.
    assert loss.sum_and_weight(LOGITS, TARGET)[1] == 5


def test_autocast_changes_nothing() -> None:
    weights = torch.tensor([1.0, 1.003])  # bfloat16 has no such number
    loss = FocalLoss(gamma=0.0, alpha=weights, label_smoothing=0.1)
    logits = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    target = torch.arange(64) % 2
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss.sum_and_weight(logits, target)
    assert torch.equal(torch.stack(inside), torch.stack(loss.sum_and_weight(logits, target)))


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"label_smoothing must be at (least 0|most 1)"):
        Quoted(label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"got \(2, 2, 2\) and torch.float32 \(2, 2\)"):
        Quoted()(LOGITS, TARGET.float())
    negative = torch.tensor([1.5, -0.5]).expand(2, 2, 2)
    for wrong in (SOFT * 1.5, negative, SOFT.masked_fill(SOFT == 1, math.nan)):
        with pytest.raises(ValueError, match="targets of a floating type are probabilities"):
            Quoted()(LOGITS, wrong)
    with pytest.raises(ValueError, match="reduction must be"):
        Quoted(reduction="average")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"need targets .* got \(2, 2, 2\) and torch.int64 \(2, 1\)"):
        Quoted()(LOGITS, TARGET[:, :1])
    with pytest.raises(ValueError, match=r"targets must be 0 to 1, or -1 where not annotated; got \[-7, 2\]"):
        Quoted()(LOGITS, torch.tensor([[2, -7], [2, -1]]))
