"""Focal loss: less for frames that are recognised already."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from abaw.labels import IGNORE_INDEX
from abaw.losses.base import FrameLoss, Reduction
from abaw.losses.weights import class_weights
from abaw.ranges import MOST_SHARPNESS, check_number


class FocalLoss(FrameLoss):
    r"""Focal loss over C classes, the softmax form of Lin et al. 2017 (eq. 5).

    A frame of class y with probabilities p costs

    .. math:: -\sum_c q_c \, \alpha_c \, (1 - p_c)^\gamma \log p_c

    where q is 1 at y and 0 elsewhere: Lin's :math:`-\alpha_y (1 - p_y)^\gamma \log p_y`. With label smoothing
    s, q is (1 - s) at y plus s / C everywhere, as in PyTorch's cross-entropy, and every class's term is
    focused by its own probability; so is every class's where the target is a distribution (mixup). With
    ``gamma=0`` this is :func:`torch.nn.functional.cross_entropy`, weights, smoothing and reductions included;
    the mean divides by the sum of :math:`\alpha_y`.

    arXiv 2603.08034 uses a focal loss but does not publish gamma; the default is Lin's.

    Args:
        gamma: How strongly easy frames are discounted; 0 or more.
        alpha: C class weights, or the scheme by which :func:`class_weights` makes them of ``class_counts``:
            ``"inverse"``, ``"sqrt"`` or ``"effective"``; ``None`` means 1 each.
        label_smoothing: s, from 0 to 1.
        ignore_index: The target of frames that cost nothing.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` (one value a target).
        class_counts: Training frames of each class, for an ``alpha`` that is a scheme; the command line takes
            them from the training labels.
        beta: β of the scheme ``"effective"``.

    Raises:
        ValueError: If an argument is out of its range, or ``alpha`` is a scheme and ``class_counts`` missing.

    >>> logits, target = torch.zeros(2, 4), torch.tensor([3, -1])
    >>> FocalLoss(gamma=2.0)(logits, target)  # (3 / 4) ** 2 * log(4)
    tensor(0.7798)
    """

    weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: list[float] | Tensor | str | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
        class_counts: list[int] | Tensor | None = None,
        beta: float = 0.9999,
    ) -> None:
        super().__init__(label_smoothing, ignore_index, reduction)
        check_number(0, MOST_SHARPNESS, gamma=gamma)
        check_number(0, 1, below=True, beta=beta)
        if isinstance(alpha, str):
            if class_counts is None:
                raise ValueError(f"alpha={alpha!r} needs class_counts, the training frames of each class")
            alpha = class_weights(class_counts, alpha, beta)
        weight = None if alpha is None else torch.as_tensor(alpha, dtype=torch.float32)
        if weight is not None and not ((weight >= 0) & weight.isfinite()).all():
            raise ValueError(f"alpha holds class weights, finite and 0 or more each; got {alpha}")
        self.gamma = gamma
        self.num_classes = None if weight is None else len(weight)
        # Made again from the arguments wherever the loss is made, so no checkpoint need carry it.
        self.register_buffer("weight", weight, persistent=False)

    @classmethod
    def takes_class_counts(cls, init_args: Mapping[str, Any]) -> bool:
        """True where ``alpha`` is a scheme."""
        return isinstance(init_args.get("alpha"), str)

    def class_losses(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Focused cost of each class; see :meth:`FrameLoss.class_losses`."""
        weight = logits.new_ones(logits.shape[-1]) if self.weight is None else self.weight.to(logits.dtype)
        log_p = F.log_softmax(logits, dim=-1)
        return weight * self._focal(log_p), weight

    def _focal(self, log_p: Tensor) -> Tensor:
        tiny = torch.finfo(log_p.dtype).tiny
        # So unlikely a class is not discounted at all. Taken apart, since 0 times the infinite logarithm of a
        # class that is ruled out is NaN in the backward.
        unlikely = log_p < math.log(tiny)
        near = log_p.clamp_min(math.log(tiny))
        # For gamma below 1 the power's slope is infinite at p = 1: clamped, it is 0, which is the limit of
        # the whole product.
        rest = (1 - near.exp()).clamp_min(tiny)
        return torch.where(unlikely, -log_p, -(rest**self.gamma) * near)
