"""Telling weights apart, and files."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

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


def file_fingerprint(path: Path, pieces: int = 3, piece: int = 65_536) -> str:
    """SHA-256 of a file's size and of some pieces of it, evenly spaced from its beginning to its end.

    Cheap for any size, and no proof: what lies between the pieces is not read. Whatever writes a video, a
    sound or a picture anew changes its head or its tail.

    Args:
        path: The file.
        pieces: How many, at least 2.
        piece: Bytes of each.

    Raises:
        OSError: It can't be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(f"{size}\n".encode())
        for index in range(pieces):
            file.seek(max(size - piece, 0) * index // (pieces - 1))
            digest.update(file.read(piece))
    return digest.hexdigest()
