"""Compiled networks that see one batch size."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class FixedBatch:
    """A compiled function of one tensor; smaller batches are filled up with zeros, whose results are cut off.

    Args:
        function: (B, ...) to (B, ...), each sample on its own.
        size: B that is compiled. A larger batch becomes the size from then on.
        *args: As for ``torch.compile``.
        **options: As for ``torch.compile``; shapes are static unless told otherwise.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], size: int, *args: Any, **options: Any) -> None:
        self._function = torch.compile(function, *args, **{"dynamic": False} | options)
        self._size = size

    def __call__(self, batch: Tensor) -> Tensor:
        """Run it on a batch of any size."""
        self._size = max(self._size, len(batch))
        filling = batch.new_zeros(self._size - len(batch), *batch.shape[1:])
        return self._function(torch.cat([batch, filling]))[: len(batch)]
