"""From the classes' frequencies to what a frame of each weighs."""

import warnings
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from abaw.ranges import check_number

SCHEMES: Final = ("inverse", "sqrt", "effective")


def class_weights(counts: Sequence[int] | Tensor, scheme: str = "inverse", beta: float = 0.9999) -> Tensor:
    r"""Weights of the classes, larger the rarer they are, with a mean of 1 over the classes that occur.

    Of a class with n frames the weight is proportional to

    - ``"inverse"``: :math:`1 / n`, so that every class weighs the same in all;
    - ``"sqrt"``: :math:`1 / \sqrt{n}`, half-way to that;
    - ``"effective"``: :math:`(1 - \beta) / (1 - \beta^n)`, one over the effective number of samples (Cui et
      al. 2019, eq. 2), which never exceeds :math:`1 / (1 - \beta)`: all weights are equal for β = 0, and
      those of ``"inverse"`` in the limit of 1.

    Cui et al. scale to a mean of 1 too.

    Args:
        counts: (C,), frames of each class.
        scheme: How weights follow from counts, one of the three.
        beta: β of ``"effective"``, from 0 to below 1.

    Returns:
        float32 (C,). A class without a frame weighs 0, and a warning says how many there are.

    Raises:
        ValueError: If the scheme is none, β out of its range, a count negative, or all of them 0.

    >>> class_weights([900, 100])
    tensor([0.2000, 1.8000])
    >>> class_weights([900, 100], "sqrt")
    tensor([0.5000, 1.5000])
    """
    if scheme not in SCHEMES:
        raise ValueError(f"there is no scheme {scheme!r} of class weights; there are {', '.join(SCHEMES)}")
    check_number(0, 1, below=True, beta=beta)
    count = check_counts(counts, "their weight is 0")
    if scheme == "inverse":
        weights = 1 / count
    elif scheme == "sqrt":
        weights = count.rsqrt()
    else:
        weights = (1 - beta) / (1 - beta**count)
    weights = torch.where(count > 0, weights, 0)
    return (weights * (count > 0).sum() / weights.sum()).float()


def check_counts(counts: Sequence[int] | Tensor, consequence: str) -> Tensor:
    """The counts as float64 (C,), on the CPU; warns of classes that never occur.

    Args:
        counts: (C,), frames of each class.
        consequence: What a class without a frame leads to, for the warning.

    Raises:
        ValueError: If these are no counts, or all are 0.
    """
    count = torch.as_tensor(counts, dtype=torch.float64).cpu()
    if count.ndim != 1 or not ((count >= 0) & count.isfinite()).all() or not (count > 0).any():
        raise ValueError(f"counts are the frames of each class, 0 or more, and not all 0; got {counts}")
    if missing := (count == 0).nonzero().flatten().tolist():
        warnings.warn(
            f"{len(missing)} of {len(count)} classes have no frame (class {missing}); {consequence}",
            stacklevel=3,
        )
    return count
