"""The slot of the model that scores logits against targets."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from abaw.labels import IGNORE_INDEX
from abaw.recorded import Recorded

Reduction = Literal["none", "mean", "sum"]


class FrameLoss(Recorded, nn.Module, ABC):
    """A loss with one term a frame and a weight for each, so that a mean over many ranks can be exact.

    A subclass says what one frame costs (:meth:`frame_losses`); this class leaves out what is not annotated
    and reduces. The mean divides by the weights' sum, as PyTorch's weighted cross-entropy does; without class
    weights that is the number of annotated frames.

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
        """Sum of the losses and sum of the weights of the annotated frames; both 0 where there are none.

        Args:
            logits: float (…, C). Half types are computed in float32.
            target: int64 (…), a class or ``ignore_index``.

        Returns:
            Two scalars, float32, or float64 for such logits.

        Raises:
            ValueError: As :meth:`forward`.
        """
        losses, weights = self._masked(logits, target)
        return losses.sum(), weights.sum()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Reduced loss; 0 with a gradient of zeros where nothing is annotated.

        Args:
            logits: float (…, C). Half types are computed in float32.
            target: int64 (…), a class or ``ignore_index``.

        Returns:
            A scalar, or (…) with ``reduction="none"``; float32, or float64 for such logits.

        Raises:
            ValueError: If the shapes do not fit or, on the CPU, a target is no class.
        """
        losses, weights = self._masked(logits, target)
        if self.reduction == "none":
            return losses.view(target.shape)
        if self.reduction == "sum":
            return losses.sum()
        total = weights.sum()
        return losses.sum() / torch.where(total > 0, total, torch.ones_like(total))

    def _masked(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        self._check(logits, target)
        # Ignored frames are scored against class 0 and multiplied away: no boolean indexing, no host sync.
        # Half types are summed in float32.
        logits, target = logits.reshape(-1, logits.shape[-1]), target.reshape(-1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        valid = target != self.ignore_index
        losses, weights = self.frame_losses(
            torch.where(valid[:, None], logits, 0), torch.where(valid, target, 0)
        )
        return losses * valid, weights * valid

    def _check(self, logits: Tensor, target: Tensor) -> None:
        if logits.shape[:-1] != target.shape:
            raise ValueError(
                f"logits (…, classes) need targets (…), got {tuple(logits.shape)} and {tuple(target.shape)}"
            )
        # Looking at values would wait for an accelerator and break a compiled graph: there, indexing fails.
        if target.device.type != "cpu" or torch.compiler.is_compiling():
            return
        wrong = target[(target != self.ignore_index) & ((target < 0) | (target >= logits.shape[-1]))]
        if len(wrong):
            raise ValueError(
                f"targets must be 0 to {logits.shape[-1] - 1}, or {self.ignore_index} where not annotated; "
                f"got {sorted(set(wrong.tolist()))}"
            )
