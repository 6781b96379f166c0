"""Balanced softmax: a softmax in which each class counts as often as it occurs."""

from torch import Tensor

from abaw.labels import IGNORE_INDEX
from abaw.losses.base import Reduction
from abaw.losses.logit_adjusted import LogitAdjustedLoss


class BalancedSoftmaxLoss(LogitAdjustedLoss):
    r"""Balanced softmax cross-entropy (Ren et al. 2020, eq. 4).

    A frame of class y with logits :math:`\eta` costs

    .. math:: -\log \frac{n_y \exp(\eta_y)}{\sum_c n_c \exp(\eta_c)}

    with :math:`n_c` the training frames of class c. That is :class:`LogitAdjustedLoss` with ``tau=1``, found
    from another end, and computed as such: counts and shares differ by a factor that the fraction cancels.

    Args:
        class_counts: C counts, the training frames of each class; the command line takes them from the
            training labels. A count of 0 is taken as 1, with a warning.
        label_smoothing: s, from 0 to 1, see :class:`FrameLoss`.
        ignore_index: The target of frames that cost nothing.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` (one value a target).

    Raises:
        ValueError: If an argument is out of its range.

    >>> import torch
    >>> loss = BalancedSoftmaxLoss(class_counts=[900, 100])
    >>> loss(torch.zeros(1, 2), torch.tensor([1]))  # -log(100 / (900 + 100))
    tensor(2.3026)
    """

    def __init__(
        self,
        class_counts: list[int] | Tensor,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(class_counts, 1.0, label_smoothing, ignore_index, reduction)
