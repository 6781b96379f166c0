"""Logit adjustment: the classes' frequencies belong to the training set, not to the model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from abaw.labels import IGNORE_INDEX
from abaw.losses.base import FrameLoss, Reduction
from abaw.losses.weights import check_counts
from abaw.ranges import MOST_SHARPNESS, check_number


class LogitAdjustedLoss(FrameLoss):
    r"""Logit-adjusted softmax cross-entropy (Menon et al. 2021, eq. 10).

    A frame of class y with logits f costs

    .. math:: -\log \frac{\exp(f_y + \tau \log \pi_y)}{\sum_c \exp(f_c + \tau \log \pi_c)}

    with :math:`\pi_c` the share of class c in the training frames. The logits themselves, which evaluation
    takes as they are, then aim at the balanced error and so at the rare classes: for :math:`\tau = 1` that is
    consistent, for :math:`\tau = 0` this is plain cross-entropy.

    A class without a training frame would be ruled out by a share of 0: its count is taken as 1, with a
    warning.

    Args:
        class_counts: C counts, the training frames of each class; the command line takes them from the
            training labels.
        tau: How strongly the frequencies count; 0 or more.
        label_smoothing: s, from 0 to 1, see :class:`FrameLoss`.
        ignore_index: The target of frames that cost nothing.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` (one value a target).

    Raises:
        ValueError: If an argument is out of its range.

    >>> loss = LogitAdjustedLoss(class_counts=[900, 100])
    >>> loss(torch.zeros(1, 2), torch.tensor([1]))  # -log(0.1): what the frequencies alone say
    tensor(2.3026)
    """

    adjustment: Tensor

    def __init__(
        self,
        class_counts: list[int] | Tensor,
        tau: float = 1.0,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(label_smoothing, ignore_index, reduction)
        check_number(0, MOST_SHARPNESS, tau=tau)
        count = check_counts(class_counts, "their count is taken as 1").clamp_min(1)
        self.num_classes = len(count)
        # Made again from the arguments wherever the loss is made, so no checkpoint need carry it.
        adjustment = tau * (count / count.sum()).log()
        self.register_buffer("adjustment", adjustment.float(), persistent=False)

    @classmethod
    def takes_class_counts(cls, init_args: Mapping[str, Any]) -> bool:
        """Always."""
        return True

    def class_losses(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Adjusted cross-entropy of each class, unweighted; see :meth:`FrameLoss.class_losses`."""
        adjusted = logits + self.adjustment.to(logits.dtype)
        return -F.log_softmax(adjusted, dim=-1), torch.ones_like(logits[0])
