import math

import pytest
import torch

from abaw.losses import class_weights

COUNTS = [177_000, 16_573, 10_771, 9_080, 95_633, 79_862, 31_637, 165_866]


def published(n: int, scheme: str, beta: float) -> float:
    if scheme == "inverse":
        return 1 / n
    if scheme == "sqrt":
        return n**-0.5
    return 1 / sum(beta**k for k in range(n))  # 1 over Cui's effective number, as the series that it sums


@pytest.mark.parametrize("counts", [COUNTS, [3, 1], [5, 5, 5], [1, 2, 40, 1000]])
@pytest.mark.parametrize(
    ("scheme", "beta"), [("inverse", 0.5), ("sqrt", 0.5), *(("effective", b) for b in (0.0, 0.9, 0.9999))]
)
def test_equals_the_published_formulas(counts: list[int], scheme: str, beta: float) -> None:
    raw = [published(n, scheme, beta) for n in counts]
    expected = [len(raw) * w / math.fsum(raw) for w in raw]
    weights = class_weights(counts, scheme, beta)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(weights, class_weights(torch.tensor(counts), scheme, beta))


def test_effective_goes_from_equal_to_inverse() -> None:
    assert class_weights([900, 100], "effective", 0.0).tolist() == [1.0, 1.0]
    limit = class_weights([900, 100], "effective", 1 - 1e-8)
    torch.testing.assert_close(limit, class_weights([900, 100]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("scheme", ["inverse", "sqrt", "effective"])
def test_a_class_that_never_occurs_weighs_nothing_and_is_told(scheme: str) -> None:
    with pytest.warns(
        UserWarning, match=r"2 of 4 classes have no frame \(class \[1, 3\]\); their weight is 0"
    ):
        weights = class_weights([900, 0, 100, 0], scheme)
    assert weights[[1, 3]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(weights[[0, 2]], class_weights([900, 100], scheme))


def test_refuses_wrong_arguments() -> None:
    with pytest.raises(
        ValueError, match="no scheme 'invers' of class weights; there are inverse, sqrt, effective"
    ):
        class_weights([1, 2], "invers")
    for beta in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"beta must be (at least 0|below 1|a finite number)"):
            class_weights([1, 2], "effective", beta)
    for counts in ([0, 0], [-1, 2], [[1, 2]], [], [math.nan, 1]):
        with pytest.raises(ValueError, match="counts are the frames of each class"):
            class_weights(counts)  # type: ignore[arg-type]
