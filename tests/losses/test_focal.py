import math
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from abaw.losses import FocalLoss, class_weights

CLASSES = 5
ALPHA = [1.0, 10.4, 0.3, 2.5, 0.0]
COUNTS = [900, 40, 300, 7, 60]


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Logits (4, 6, C) and targets (4, 6), a fifth of them not annotated."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(-1, CLASSES, (4, 6), generator=generator)
    return 3 * torch.randn(4, 6, CLASSES, generator=generator).to(dtype), target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("alpha", [None, ALPHA])
def test_without_gamma_it_is_cross_entropy(
    alpha: list[float] | None, smoothing: float, reduction: str, dtype: torch.dtype
) -> None:
    (ours, target), (theirs, _) = batch(dtype), batch(dtype)
    ours.requires_grad_()
    theirs.requires_grad_()
    loss = FocalLoss(0.0, alpha, smoothing, reduction=reduction)(ours, target)
    weight = None if alpha is None else torch.tensor(alpha, dtype=dtype)
    expected = F.cross_entropy(
        theirs.flatten(0, 1),
        target.flatten(),
        weight,
        ignore_index=-1,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    assert loss.shape == (target.shape if reduction == "none" else ())
    torch.testing.assert_close(loss.flatten(), expected.flatten(), atol=1e-6, rtol=1e-6)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("gamma", "smoothing", "alpha"), list(product([0.3, 1.0, 2.0, 5.0], [0.0, 0.2], [None, ALPHA]))
)
def test_equals_the_published_formula(gamma: float, smoothing: float, alpha: list[float] | None) -> None:
    logits, target = batch(torch.float64)
    weights = [1.0] * CLASSES if alpha is None else alpha
    costs, total_weight = [], 0.0
    for row, y in zip(logits.flatten(0, 1).tolist(), target.flatten().tolist(), strict=True):
        costs.append(0.0)
        if y < 0:
            continue
        total_weight += weights[y]
        for c in range(CLASSES):
            p = math.exp(row[c]) / sum(math.exp(value) for value in row)
            q = smoothing / CLASSES + (1 - smoothing) * (c == y)
            costs[-1] -= q * weights[c] * (1 - p) ** gamma * math.log(p)

    def focal(reduction: str) -> Tensor:
        return FocalLoss(gamma, alpha, smoothing, reduction=reduction)(logits, target)

    # Class weights are kept in float32.
    assert focal("none").flatten().tolist() == pytest.approx(costs, abs=1e-6, rel=1e-6)
    assert focal("sum").item() == pytest.approx(sum(costs), rel=1e-6)
    assert focal("mean").item() == pytest.approx(sum(costs) / total_weight, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("alpha", "smoothing"), [(None, 0.0), (ALPHA, 0.1)])
def test_gradcheck(gamma: float, alpha: list[float] | None, smoothing: float) -> None:
    logits, target = batch(torch.float64)
    logits = logits[:2].requires_grad_()
    for reduction in ("none", "mean", "sum"):
        loss = FocalLoss(gamma, alpha, smoothing, reduction=reduction)
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, target[:2]), logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_extreme_logits_stay_finite(dtype: torch.dtype, gamma: float, smoothing: float) -> None:
    rows = [[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4], [40.0, 0.0, 0.0]]
    logits = torch.tensor([row for row in rows for _ in range(3)], dtype=dtype, requires_grad=True)
    loss = FocalLoss(gamma, label_smoothing=smoothing, reduction="none")(logits, torch.arange(15) % 3)
    assert loss.isfinite().all()
    assert (loss >= 0).all()
    loss.sum().backward()
    assert logits.grad.isfinite().all()
    if not smoothing:
        # Certain and right costs nothing and moves nothing; certain and wrong costs what cross-entropy says.
        assert loss[0] == 0
        assert not logits.grad[0].any()
        assert loss[1].item() == pytest.approx(logits[1, 0].item() - logits[1, 1].item())


def test_a_forbidden_class_costs_nothing_to_the_others() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf]], requires_grad=True)
    loss = FocalLoss(2.0)(logits, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(0.25 * math.log(2))
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_target_that_is_ruled_out_costs_infinitely_and_has_a_gradient(gamma: float) -> None:
    logits = torch.tensor([[1.0, -torch.inf, 0.0]], requires_grad=True)
    loss = FocalLoss(gamma=gamma)(logits, torch.tensor([1]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == torch.inf
    # Of a probability of 0 nothing is discounted: it is cross-entropy's.
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([1])), logits)
    torch.testing.assert_close(gradient, expected)


def test_ignored_frames_may_hold_anything() -> None:
    logits, target = batch()
    expected = FocalLoss()(logits, target)
    dirty = logits.masked_fill((target == -1)[..., None], math.nan).requires_grad_()
    loss = FocalLoss()(dirty, target)
    loss.backward()
    assert torch.equal(loss, expected)
    assert dirty.grad.isfinite().all()
    assert not dirty.grad[target == -1].any()


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_nothing_to_learn_from_is_zero_with_a_gradient(reduction: str) -> None:
    logits = torch.randn(2, 3, CLASSES, requires_grad=True)
    loss = FocalLoss(0.5, ALPHA, 0.1, reduction=reduction)(logits, torch.full((2, 3), -1))
    assert not loss.any()
    loss.sum().backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("alpha", [None, ALPHA])
def test_soft_targets_without_gamma_are_cross_entropys(alpha: list[float] | None, smoothing: float) -> None:
    logits, _ = batch(torch.float64)
    generator = torch.Generator().manual_seed(1)
    soft = torch.randn(logits.shape, generator=generator, dtype=torch.float64).softmax(dim=-1)
    weight = None if alpha is None else torch.tensor(alpha, dtype=torch.float64)
    expected = F.cross_entropy(
        logits.flatten(0, 1), soft.flatten(0, 1), weight, reduction="none", label_smoothing=smoothing
    )
    loss = FocalLoss(0.0, alpha, smoothing, reduction="none")(logits, soft)
    torch.testing.assert_close(loss.flatten(), expected, atol=1e-6, rtol=1e-6)
    if alpha is None:
        mean = FocalLoss(0.0, label_smoothing=smoothing)(logits, soft)
        torch.testing.assert_close(mean, expected.mean())


def test_soft_targets_focus_each_class_by_its_own_probability() -> None:
    logits = torch.tensor([[1.0, -0.5, 2.0]], dtype=torch.float64)
    target, smoothing, alpha, gamma = [0.7, 0.3, 0.0], 0.3, [2.0, 0.5, 1.0], 1.5
    expected = 0.0
    for c in range(3):
        p = math.exp(logits[0, c]) / sum(math.exp(value) for value in logits[0])
        q = (1 - smoothing) * target[c] + smoothing / 3
        expected -= q * alpha[c] * (1 - p) ** gamma * math.log(p)
    loss = FocalLoss(gamma, alpha, smoothing)
    soft = torch.tensor([target], dtype=torch.float64)
    assert FocalLoss(gamma, alpha, smoothing, reduction="sum")(logits, soft).item() == pytest.approx(expected)
    assert loss(logits, soft).item() == pytest.approx(expected / (0.7 * 2.0 + 0.3 * 0.5))
    mixed = logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, soft), mixed)


@pytest.mark.parametrize("scheme", ["inverse", "sqrt", "effective"])
def test_alpha_may_be_a_scheme(scheme: str) -> None:
    logits, target = batch()
    loss = FocalLoss(alpha=scheme, class_counts=COUNTS, beta=0.99)
    expected = FocalLoss(alpha=class_weights(COUNTS, scheme, 0.99))
    assert torch.equal(loss(logits, target), expected(logits, target))
    assert not torch.equal(loss(logits, target), FocalLoss()(logits, target))
    assert loss.describe()["init_args"]["class_counts"] == COUNTS
    assert FocalLoss.takes_class_counts({"alpha": scheme})
    assert not FocalLoss.takes_class_counts({"alpha": ALPHA})
    assert not FocalLoss.takes_class_counts({})


def test_easy_frames_count_less() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.5, 0.0]])
    target = torch.tensor([0, 0])
    easy, hard = (FocalLoss(gamma, reduction="none")(logits, target) for gamma in (2.0, 0.0))
    share = easy / hard
    assert share[0] < 0.001
    assert 0.1 < share[1] < 0.2


def test_one_graph() -> None:
    torch.compiler.reset()
    logits, target = batch()
    loss = FocalLoss(2.0, ALPHA, 0.1)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


def test_weights_move_along_but_are_not_saved() -> None:
    loss = FocalLoss(alpha=ALPHA)
    assert not loss.state_dict()
    assert loss.to("meta").weight.is_meta
    assert loss.describe()["init_args"] == {"alpha": ALPHA}


def test_refuses_wrong_arguments() -> None:
    for alpha in ([1.0, -1.0], [1.0, math.inf], [1.0, math.nan]):
        with pytest.raises(ValueError, match="alpha holds class weights, finite and 0 or more"):
            FocalLoss(alpha=alpha)
    with pytest.raises(ValueError, match=r"gamma must be (at least 0|a finite number)"):
        FocalLoss(gamma=math.nan)
    with pytest.raises(ValueError, match=r"gamma must be (at least 0|a finite number)"):
        FocalLoss(-0.1)
    with pytest.raises(ValueError, match="alpha holds class weights"):
        FocalLoss(alpha=[1.0, -1.0])
    with pytest.raises(ValueError, match="FocalLoss was made for 2 classes, got logits of 5"):
        FocalLoss(alpha=[1.0, 2.0])(*batch())
    with pytest.raises(ValueError, match="alpha='sqrt' needs class_counts"):
        FocalLoss(alpha="sqrt")
    with pytest.raises(ValueError, match="no scheme 'rare' of class weights; there are inverse, sqrt, eff"):
        FocalLoss(alpha="rare", class_counts=COUNTS)
    with pytest.raises(ValueError, match=r"targets must be 0 to 4, or -1 where not annotated; got \[5\]"):
        FocalLoss()(torch.zeros(2, 5), torch.tensor([5, 0]))
