"""Telling weights apart."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def fingerprint(weights: Mapping[str, Tensor], prefix: str = "") -> str:
    """SHA-256 of the weights whose names begin with ``prefix``: of names, types, shapes and values.

    Args:
        weights: A state dict, on any device.
        prefix: Which of them; it is no part of the names that count.

    >>> weights = {"encoder.bias": torch.zeros(2), "head.bias": torch.ones(1)}
    >>> fingerprint(weights, "encoder.") == fingerprint({"bias": torch.zeros(2)})
    True
    >>> fingerprint(weights, "head.") == fingerprint({"bias": torch.zeros(1)})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in weights if name.startswith(prefix)):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name.removeprefix(prefix)} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
