import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from abaw.losses import BalancedSoftmaxLoss, LogitAdjustedLoss

COUNTS = [900, 40, 300, 7, 60]
C = len(COUNTS)


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Logits (4, 6, C) and targets (4, 6), a fifth of them not annotated."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(-1, C, (4, 6), generator=generator)
    return 3 * torch.randn(4, 6, C, generator=generator).to(dtype), target


def menon(f: list[float], y: int, tau: float) -> float:
    """Equation 10 as it is written."""
    prior = [n / sum(COUNTS) for n in COUNTS]
    adjusted = [math.exp(f[c] + tau * math.log(prior[c])) for c in range(C)]
    return -math.log(adjusted[y] / sum(adjusted))


def ren(eta: list[float], y: int) -> float:
    """Equation 4 as it is written."""
    return -math.log(
        COUNTS[y] * math.exp(eta[y]) / sum(n * math.exp(e) for n, e in zip(COUNTS, eta, strict=True))
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0, None])
def test_equals_the_published_formula(tau: float | None, smoothing: float) -> None:
    logits, target = batch()
    expected = []
    for row, y in zip(logits.flatten(0, 1).tolist(), target.flatten().tolist(), strict=True):
        costs = [ren(row, c) if tau is None else menon(row, c, tau) for c in range(C)]
        expected.append((1 - smoothing) * costs[y] + smoothing * sum(costs) / C if y >= 0 else 0.0)
    count = sum(y >= 0 for y in target.flatten().tolist())

    def loss(reduction: str) -> Tensor:
        if tau is None:
            return BalancedSoftmaxLoss(COUNTS, smoothing, reduction=reduction)(logits, target)
        return LogitAdjustedLoss(COUNTS, tau, smoothing, reduction=reduction)(logits, target)

    # The adjustment is kept in float32.
    assert loss("none").flatten().tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert loss("sum").item() == pytest.approx(sum(expected), rel=1e-6)
    assert loss("mean").item() == pytest.approx(sum(expected) / count, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_tau_it_is_cross_entropy(smoothing: float) -> None:
    logits, target = batch(torch.float32)
    loss = LogitAdjustedLoss(COUNTS, tau=0.0, label_smoothing=smoothing)(logits, target)
    expected = F.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=-1, label_smoothing=smoothing
    )
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("loss", [LogitAdjustedLoss(COUNTS, 1.5, 0.1), BalancedSoftmaxLoss(COUNTS)])
def test_gradcheck(loss: LogitAdjustedLoss) -> None:
    logits, target = batch()
    soft = torch.softmax(torch.flip(logits, dims=[-1]), dim=-1)
    for given in (target, soft):
        assert torch.autograd.gradcheck(
            lambda x, given=given: loss(x, given), logits.clone().requires_grad_()
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_extreme_logits_stay_finite(dtype: torch.dtype, smoothing: float) -> None:
    rows = [[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4], [40.0, 0.0, 0.0]]
    logits = torch.tensor([row for row in rows for _ in range(3)], dtype=dtype, requires_grad=True)
    for loss in (
        LogitAdjustedLoss([10**6, 1, 30], 2.0, smoothing),
        BalancedSoftmaxLoss([10**6, 1, 30], smoothing),
    ):
        costs = loss(logits, torch.arange(15) % 3)
        assert costs.isfinite()
        logits.grad = None
        costs.backward()
        assert logits.grad.isfinite().all()


def test_a_forbidden_class_costs_nothing_to_the_others() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf]], requires_grad=True)
    loss = BalancedSoftmaxLoss([30, 10, 20])(logits, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4))
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [LogitAdjustedLoss(COUNTS), BalancedSoftmaxLoss(COUNTS)])
def test_nothing_to_learn_from_is_zero_with_a_gradient(loss: LogitAdjustedLoss) -> None:
    logits = torch.full((2, 3, C), math.nan, requires_grad=True)
    cost = loss(logits, torch.full((2, 3), -1))
    cost.backward()
    assert cost == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_soft_targets_share_the_costs() -> None:
    logits, _ = batch()
    for loss in (LogitAdjustedLoss(COUNTS, reduction="none"), BalancedSoftmaxLoss(COUNTS, reduction="none")):
        soft = torch.zeros_like(logits)
        soft[..., 1], soft[..., 3] = 0.3, 0.7
        one, three = (loss(logits, torch.full(logits.shape[:-1], c)) for c in (1, 3))
        torch.testing.assert_close(loss(logits, soft), 0.3 * one + 0.7 * three)


@pytest.mark.parametrize("loss", [LogitAdjustedLoss, BalancedSoftmaxLoss])
def test_a_class_that_never_occurs_counts_once_and_is_told(loss: type[LogitAdjustedLoss]) -> None:
    with pytest.warns(
        UserWarning, match=r"1 of 3 classes have no frame \(class \[1\]\); their count is taken as 1"
    ):
        empty = loss([90, 0, 9])
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(empty(logits, torch.tensor([1])), loss([90, 1, 9])(logits, torch.tensor([1])))


@pytest.mark.parametrize("loss", [LogitAdjustedLoss, BalancedSoftmaxLoss])
def test_is_made_again_from_its_arguments(loss: type[LogitAdjustedLoss]) -> None:
    made = loss(torch.tensor(COUNTS))
    assert not made.state_dict()
    assert made.describe() == {
        "class_path": f"{loss.__module__}.{loss.__name__}",
        "init_args": {"class_counts": COUNTS},
    }
    assert made.num_classes == C
    assert loss.takes_class_counts({})


def test_one_graph() -> None:
    torch.compiler.reset()
    logits, target = batch()
    loss = LogitAdjustedLoss(COUNTS, label_smoothing=0.1)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


def test_refuses_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"tau must be (at least 0|a finite number)"):
        LogitAdjustedLoss(COUNTS, tau=-1.0)
    with pytest.raises(ValueError, match="counts are the frames of each class"):
        LogitAdjustedLoss([0, 0])
    with pytest.raises(ValueError, match="BalancedSoftmaxLoss was made for 5 classes, got logits of 3"):
        BalancedSoftmaxLoss(COUNTS)(torch.zeros(1, 3), torch.tensor([0]))
