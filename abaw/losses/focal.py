"""Focal loss: less for frames that are recognised already."""

import torch
from torch import Tensor
from torch.nn import functional as F

from abaw.labels import IGNORE_INDEX
from abaw.losses.base import FrameLoss, Reduction


class FocalLoss(FrameLoss):
    r"""Focal loss over C classes, the softmax form of Lin et al. 2017 (eq. 5).

    A frame of class y with probabilities p costs

    .. math:: -\sum_c q_c \, \alpha_c \, (1 - p_c)^\gamma \log p_c

    where q is 1 at y and 0 elsewhere: Lin's :math:`-\alpha_y (1 - p_y)^\gamma \log p_y`. With label smoothing
    s, q is (1 - s) at y plus s / C everywhere, as in PyTorch's cross-entropy, and every class's term is
    focused by its own probability. With ``gamma=0`` this is :func:`torch.nn.functional.cross_entropy`,
    weights, smoothing and reductions included; the mean divides by the sum of :math:`\alpha_y`.

    arXiv 2603.08034 uses a focal loss but does not publish gamma; the default is Lin's.

    Args:
        gamma: How strongly easy frames are discounted; 0 or more.
        alpha: C class weights; ``None`` means 1 each.
        label_smoothing: s, from 0 to 1.
        ignore_index: The target of frames that cost nothing.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` (one value a target).

    Raises:
        ValueError: If an argument is out of its range; later, if ``alpha`` has not one weight a class.

    >>> logits, target = torch.zeros(2, 4), torch.tensor([3, -1])
    >>> FocalLoss(gamma=2.0)(logits, target)  # (3 / 4) ** 2 * log(4)
    tensor(0.7798)
    """

    weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: list[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(ignore_index=ignore_index, reduction=reduction)
        if gamma < 0:
            raise ValueError(f"gamma must be 0 or more, got {gamma}")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing}")
        if alpha is not None and any(weight < 0 for weight in alpha):
            raise ValueError(f"alpha holds class weights, 0 or more each; got {alpha}")
        self.gamma = gamma
        self.alpha = alpha
        self.label_smoothing = label_smoothing
        # Made again from ``alpha`` wherever the loss is made, so no checkpoint need carry it.
        self.register_buffer("weight", None if alpha is None else torch.tensor(alpha), persistent=False)

    def frame_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Cost and class weight of each frame; see :meth:`FrameLoss.frame_losses`."""
        weight = self._class_weights(logits)
        log_p = F.log_softmax(logits, dim=-1)
        weights = weight[target]
        losses = weights * self._focal(log_p.gather(1, target[:, None]).squeeze(1))
        if self.label_smoothing:
            spread = (weight * self._focal(log_p)).mean(dim=1)
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * spread
        return losses, weights

    def _focal(self, log_p: Tensor) -> Tensor:
        # For gamma below 1 the power's slope is infinite at p = 1, and infinity times 0 is NaN in the
        # backward: clamped, the slope there is 0, which is the limit of the whole product.
        rest = (1 - log_p.exp()).clamp_min(torch.finfo(log_p.dtype).tiny)
        return -(rest**self.gamma) * log_p

    def _class_weights(self, logits: Tensor) -> Tensor:
        classes = logits.shape[-1]
        if self.weight is None:
            return logits.new_ones(classes)
        if len(self.weight) != classes:
            raise ValueError(f"alpha needs one weight a class: {len(self.weight)} weights, {classes} classes")
        return self.weight.to(logits.dtype)
