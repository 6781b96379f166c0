"""The slot of the model that scores logits against targets."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from abaw.labels import IGNORE_INDEX

Reduction = Literal["none", "mean", "sum"]


class FrameLoss(nn.Module, ABC):
    """A loss with one term a frame and a weight for each, so that a mean over many ranks can be exact.

    A subclass says what one frame costs (:meth:`frame_losses`); this class leaves out what is not annotated and
    reduces. The mean divides by the weights' sum, as PyTorch's weighted cross-entropy does; without class weights
    that is the number of annotated frames.

    Args:
        ignore_index: The target of frames that cost nothing.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` (one value a target).
    """

    def __init__(self, ignore_index: int = IGNORE_INDEX, reduction: Reduction = "mean") -> None:
        super().__init__()
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(f'reduction must be "none", "mean" or "sum", got {reduction!r}')
        self.ignore_index = ignore_index
        self.reduction = reduction

    @abstractmethod
    def frame_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Cost and weight of each frame.

        Args:
            logits: float (M, C).
            target: int64 (M,), each a valid class.

        Returns:
            ``(losses, weights)``, both float (M,); ``losses`` already hold their weights.
        """

    def sum_and_weight(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the losses and sum of the weights of the annotated frames: two scalars, 0 where there are none.

        Args:
            logits: float (…, C).
            target: int64 (…).
        """
        losses, weights = self._masked(logits, target)
        return losses.sum(), weights.sum()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of ``logits`` (…, C) against ``target`` (…); 0 with a gradient where nothing is annotated."""
        losses, weights = self._masked(logits, target)
        if self.reduction == "none":
            return losses.view(target.shape)
        if self.reduction == "sum":
            return losses.sum()
        total = weights.sum()
        return losses.sum() / torch.where(total > 0, total, torch.ones_like(total))

    def _masked(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        # Ignored frames are scored against class 0 and multiplied away: no boolean indexing, no host sync.
        logits, target = logits.reshape(-1, logits.shape[-1]), target.reshape(-1)
        valid = target != self.ignore_index
        logits = torch.where(valid[:, None], logits.float(), torch.zeros_like(logits, dtype=torch.float32))
        losses, weights = self.frame_losses(logits, torch.where(valid, target, torch.zeros_like(target)))
        return losses * valid, weights * valid
