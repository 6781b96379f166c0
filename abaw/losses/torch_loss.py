"""PyTorch's own losses, and any other of logits and targets, in the place of ours."""

import copy
import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules import loss as torch_losses

from abaw.errors import InputError
from abaw.losses.base import FrameLoss


class TorchLoss(FrameLoss):
    """A loss of torch, or any module that makes a number of logits and targets, as a :class:`FrameLoss`.

    :class:`~abaw.ExpressionModule` wraps what it is given by itself. Of a loss that can be asked for one
    value a frame (``reduction``, as all of torch's), means are exact over ranks and accumulated batches,
    class weights included. What gives a single number counts as the mean over the annotated frames that it
    is given, and these means are weighted by the frames' number: exact where that is what it is.

    Frames that are not annotated never reach the loss, whatever its own ``ignore_index`` is.

    Args:
        loss: The module; or the name of one of torch's, such as ``CrossEntropyLoss``.
        arguments: What one of torch's is made with, where it is named; lists stand for tensors.

    Raises:
        InputError: If the name is no loss of torch, or it takes other arguments.

    >>> loss = TorchLoss("CrossEntropyLoss", {"weight": [1.0, 3.0]})
    >>> loss(torch.zeros(1, 3, 2), torch.tensor([[0, 1, -1]]))  # log(2)
    tensor(0.6931)
    """

    def __init__(self, loss: str | nn.Module, arguments: dict[str, Any] | None = None) -> None:
        if isinstance(loss, str):
            loss = _make(loss, arguments or {})
        elif arguments:
            raise InputError(f"arguments are for a loss that is named; {type(loss).__name__} is made already")
        reduction = getattr(loss, "reduction", None)
        super().__init__(reduction=reduction if reduction in ("mean", "sum", "none") else "mean")
        self._by_frame = reduction is not None
        self.loss = copy.deepcopy(loss)
        if self._by_frame:
            self.loss.reduction = "none"  # type: ignore[assignment]
        weight = getattr(loss, "weight", None)
        self.num_classes = len(weight) if isinstance(weight, Tensor) and weight.ndim == 1 else None

    def describe(self) -> dict[str, Any]:
        """As :meth:`abaw.recorded.Recorded.describe`, where the loss is one of torch's."""
        kind = type(self.loss)
        if kind.__module__ != torch_losses.__name__:
            return super().describe()
        arguments: dict[str, Any] = {"reduction": self.reduction}
        for name in inspect.signature(kind).parameters:
            value = getattr(self.loss, name, None)
            if value is not None and name != "reduction":
                arguments[name] = value.tolist() if isinstance(value, Tensor) else value
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return {"class_path": path, "init_args": {"loss": kind.__name__, "arguments": arguments}}

    def class_losses(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What the loss says of each class as the target; see :meth:`FrameLoss.class_losses`."""
        classes = range(logits.shape[-1])
        targets = [torch.full(logits.shape[:1], c, device=logits.device) for c in classes]
        losses = torch.stack([self._of_frames(logits, target) for target in targets], dim=1)
        return losses, self._class_weights(logits)

    def _frame_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if self._by_frame:
            return super()._frame_losses(logits, target)
        self._check(logits, target)
        logits = logits.reshape(-1, logits.shape[-1])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if target.is_floating_point():
            target = target.reshape(logits.shape).to(logits.dtype)
            valid = (target > 0).any(dim=1)
        else:
            target = target.reshape(-1)
            valid = target != self.ignore_index
        if not valid.any():
            return 0 * logits.sum(dim=1), torch.zeros_like(logits[:, 0])
        value = self._call(logits[valid], target[valid]).mean()
        return torch.where(valid, value, 0), valid.to(logits.dtype)

    def _of_frames(self, logits: Tensor, target: Tensor) -> Tensor:
        losses = self._call(logits, target)
        if losses.shape != target.shape:
            raise InputError(
                f"{type(self.loss).__name__} gives {tuple(losses.shape)} for {len(target)} frames, not one "
                "value each: take a loss of logits and class indices"
            )
        return losses

    def _call(self, logits: Tensor, target: Tensor) -> Tensor:
        try:
            losses: Tensor = self.loss(logits, target)
        except (TypeError, ValueError, RuntimeError) as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{type(self.loss).__name__} can't score logits {tuple(logits.shape)} against class indices "
                f"{tuple(target.shape)}: {said}"
            ) from error
        return losses

    def _class_weights(self, logits: Tensor) -> Tensor:
        """What a frame of each class weighs in torch's mean."""
        ones = torch.ones_like(logits[0])
        if not isinstance(self.loss, (nn.CrossEntropyLoss, nn.NLLLoss)):
            return ones
        weight = ones if self.loss.weight is None else self.loss.weight.to(ones)
        return weight * (torch.arange(len(ones), device=ones.device) != self.loss.ignore_index)


def _make(name: str, arguments: dict[str, Any]) -> nn.Module:
    kind = getattr(torch_losses, name, None)
    if not (isinstance(kind, type) and issubclass(kind, torch_losses._Loss) and hasattr(nn, name)):
        names = sorted(n for n in torch_losses.__all__ if hasattr(nn, n))
        raise InputError(f"torch has no loss {name!r}; there are {', '.join(names)}")
    tensors = {"weight", "pos_weight"}
    given = {k: torch.tensor(v) if k in tensors and isinstance(v, list) else v for k, v in arguments.items()}
    try:
        made: nn.Module = cast(Any, kind)(**given)
    except TypeError as error:
        raise InputError(f"{name}: {str(error).removeprefix(f'{name}.__init__() ')}") from error
    return made
