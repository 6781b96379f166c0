"""How the module is trained: rates that rise and fall, and gradients of accumulated batches."""

import math
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn

from abaw.errors import InputError


class Schedule(torch.optim.lr_scheduler.LambdaLR):
    """Factors on the learning rates of the groups that there were when it was made.

    Groups that a callback adds later (Lightning's ``BackboneFinetuning``) keep what that sets.
    """

    def get_lr(self) -> list[float | Tensor]:
        """The rates of all groups."""
        rates = super().get_lr()
        return [*rates, *(group["lr"] for group in self.optimizer.param_groups[len(rates) :])]

    def set_rates(self, peaks: list[float]) -> None:
        """Take other peaks, and set the rates of the step at hand by them."""
        self.base_lrs = list(peaks)
        for group, peak, factor in zip(self.optimizer.param_groups, peaks, self.lr_lambdas, strict=False):
            group["initial_lr"], group["lr"] = peak, peak * factor(self.last_epoch)


class GroupMean:
    """Makes the gradients of batches that are accumulated those of one batch that holds them all.

    Lightning divides the losses of ``accumulate_grad_batches`` batches by their number, and so weighs the few
    annotated frames of one as much as another's many. Here each batch counts by the weight of its annotated
    frames: what was accumulated is always the gradient of the mean over the group so far. No batch need be
    known to be the last, and hooks, clipping and gradient scaling find what they expect. (That holds for
    means of frames. A loss that is none can't be split into batches at all.)
    """

    def __init__(self) -> None:
        self._weight: Tensor | None = None

    def begin(self) -> None:
        """Begin a group."""
        self._weight = None

    def add(self, loss: Tensor, weight: Tensor, batches: int, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Add a batch, before its backward pass.

        Args:
            loss: Its mean, which Lightning has divided by ``batches``.
            weight: Of its annotated frames, over all ranks.
            batches: How many are accumulated.
            parameters: Those whose gradients hold the group so far; they are scaled.

        Returns:
            The loss to go backward from.
        """
        before = torch.zeros_like(weight) if self._weight is None else self._weight
        self._weight = before + weight
        total = divisor(self._weight)
        if gradients := [p.grad for p in parameters if p.grad is not None]:
            torch._foreach_mul_(gradients, before / total)
        return loss * (batches * weight / total)


def divisor(weight: Tensor) -> Tensor:
    """What a sum is divided by; where nothing weighs anything, the sum is 0 and stays it."""
    return weight.clamp_min(torch.finfo(weight.dtype).tiny)


def parameter_groups(name: str, modules: Iterable[nn.Module], lr: float) -> list[dict[str, Any]]:
    """The trainable parameters of some modules, matrices apart from norms and biases, which do not decay."""
    trainable = [p for module in modules for p in module.parameters() if p.requires_grad]
    decayed = {"name": name, "params": [p for p in trainable if p.ndim > 1], "lr": lr}
    spared = {"name": f"{name} without decay", "params": [p for p in trainable if p.ndim <= 1], "lr": lr}
    return [group for group in (decayed, spared | {"weight_decay": 0.0}) if group["params"]]


def count_steps(trainer: pl.Trainer) -> int:
    """How many steps a training has.

    Raises:
        InputError: If it has no end.
    """
    steps = trainer.estimated_stepping_batches
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        # Lightning takes what the first epoch accumulates for that of all.
        if isinstance(callback, GradientAccumulationScheduler) and (trainer.max_epochs or -1) > 0:
            epochs = map(callback.get_accumulate_grad_batches, range(trainer.max_epochs or 0))
            planned = sum(math.ceil(trainer.num_training_batches / batches) for batches in epochs)
            steps = planned if trainer.max_steps == -1 else min(planned, trainer.max_steps)
    if math.isinf(steps):
        raise InputError("the cosine schedule needs an end: set trainer.max_epochs or trainer.max_steps")
    return int(steps)


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """Factor on the peak learning rate at ``step``: linear up to 1, then half a cosine down to 0.

    >>> [round(warmup_cosine(step, 2, 6), 3) for step in range(7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
