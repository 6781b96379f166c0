"""The slot of the model that scores logits against targets."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from abaw.labels import IGNORE_INDEX
from abaw.ranges import MOST_STEPS, check_count, check_number
from abaw.recorded import Recorded

Reduction = Literal["none", "mean", "sum"]


class FrameLoss(Recorded, nn.Module, ABC):
    r"""A loss with one term a frame and a weight for each, so that a mean over many ranks can be exact.

    A subclass says what each class would cost were it the target (:meth:`class_losses`); this class takes
    the target's, leaves out what is not annotated, smooths and reduces:

    .. math:: \sum_c q_c \, \ell_c, \qquad q_c = (1 - s) \, t_c + s / C

    Here t is the target as a distribution: 1 at the class of an annotated frame, or as given (mixup), and s
    is ``label_smoothing``. That is how PyTorch's cross-entropy smooths.

    The mean divides by the weights' sum, as PyTorch's weighted cross-entropy does: a frame weighs
    :math:`\sum_c t_c w_c`, and without class weights the divisor is the number of annotated frames. (For
    targets that are distributions PyTorch divides by the number of frames, weights or not; here a
    distribution that is certain counts as its class does.)

    Args:
        label_smoothing: s, from 0 to 1.
        ignore_index: The target of frames that cost nothing.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` (one value a target).

    Raises:
        ValueError: If an argument is out of its range.
    """

    num_classes: int | None = None
    """C, where the loss was made for a number of classes; ``None`` where it takes any."""

    def __init__(
        self,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_number(0, 1, label_smoothing=label_smoothing)
        check_count(-MOST_STEPS, MOST_STEPS, ignore_index=ignore_index)
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(f'reduction must be "none", "mean" or "sum", got {reduction!r}')
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        self.reduction = reduction

    @classmethod
    def takes_class_counts(cls, init_args: Mapping[str, Any]) -> bool:
        """Whether such a loss wants to know the training labels: the command line then adds ``class_counts``.

        Args:
            init_args: The other arguments that it will be made with.
        """
        return False

    @abstractmethod
    def class_losses(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What a frame costs if its target is this class or that.

        Args:
            logits: float32 or float64 (M, C).

        Returns:
            ``(losses, weights)``: float (M, C), which hold their weights already, and the classes' weights,
            float (C,). A loss may be infinite where its gradient is finite.
        """

    def sum_and_weight(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the losses and sum of the weights of the annotated frames; both 0 where there are none.

        Args:
            logits: As in :meth:`forward`.
            target: As in :meth:`forward`.

        Returns:
            Two scalars, float32, or float64 for such logits.

        Raises:
            ValueError: As :meth:`forward`.
        """
        losses, weights = self._frame_losses(logits, target)
        return losses.sum(), weights.sum()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Reduced loss; 0 with a gradient of zeros where nothing is annotated.

        Args:
            logits: float (…, C). Half types are computed in float32.
            target: int64 (…), a class or ``ignore_index``; or float (…, C), probabilities of the classes, all
                zero where not annotated.

        Returns:
            A scalar, or (…) with ``reduction="none"``; float32, or float64 for such logits.

        Raises:
            ValueError: If the shapes do not fit or, on the CPU, a target is no class or no distribution.
        """
        losses, weights = self._frame_losses(logits, target)
        if self.reduction == "none":
            return losses.view(logits.shape[:-1])
        if self.reduction == "sum":
            return losses.sum()
        total = weights.sum()
        return losses.sum() / torch.where(total > 0, total, torch.ones_like(total))

    def _frame_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Cost and weight of each frame, both (M,), 0 where it is not annotated."""
        self._check(logits, target)
        # Half types are summed in float32.
        logits = logits.reshape(-1, logits.shape[-1])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        given = self._distribution(target, logits)
        # Ignored frames are scored and multiplied away: no boolean indexing, no host sync.
        valid = (given > 0).any(dim=1)
        losses, weights = self.class_losses(torch.where(valid[:, None], logits, 0))
        share = given * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[-1]
        # A class that costs infinitely much costs nothing where it has no share.
        shared = torch.where(share > 0, share * losses, 0)
        # No matrix product: autocast would round its factors.
        return shared.sum(dim=1) * valid, (given * weights).sum(dim=1)

    def _distribution(self, target: Tensor, logits: Tensor) -> Tensor:
        """The target as probabilities (M, C), zeros where not annotated."""
        if target.is_floating_point():
            return target.reshape(logits.shape).to(logits.dtype)
        target = target.reshape(-1, 1)
        valid = target != self.ignore_index
        classes = torch.where(valid, target, 0)
        return torch.zeros_like(logits).scatter(1, classes, valid.to(logits.dtype))

    def _check(self, logits: Tensor, target: Tensor) -> None:
        soft = target.is_floating_point()
        if target.shape != (logits.shape if soft else logits.shape[:-1]):
            raise ValueError(
                f"logits (…, classes) need targets (…), or such of a floating type like the logits, got "
                f"{tuple(logits.shape)} and {target.dtype} {tuple(target.shape)}"
            )
        classes = logits.shape[-1]
        if self.num_classes not in (None, classes):
            raise ValueError(
                f"{type(self).__name__} was made for {self.num_classes} classes, got logits of {classes}"
            )
        # Looking at values would wait for an accelerator and break a compiled graph: there, indexing fails.
        if target.device.type != "cpu" or torch.compiler.is_compiling():
            return
        if soft:
            self._check_distribution(target)
            return
        wrong = target[(target != self.ignore_index) & ((target < 0) | (target >= classes))]
        if len(wrong):
            raise ValueError(
                f"targets must be 0 to {classes - 1}, or {self.ignore_index} where not annotated; "
                f"got {sorted(set(wrong.tolist()))}"
            )

    @staticmethod
    def _check_distribution(target: Tensor) -> None:
        total = target.double().sum(dim=-1)
        # Half types hold a sum of 1 to within a percent.
        if not ((target >= 0).all() and ((total == 0) | ((total - 1).abs() < 0.01)).all()):
            raise ValueError(
                "targets of a floating type are probabilities: no value below 0, and a sum of 1 over the "
                f"classes, or 0 where not annotated; got sums from {total.min():.3g} to {total.max():.3g}"
            )
