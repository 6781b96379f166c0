"""Checkpoints as they lie on the disk."""

from pathlib import Path
from typing import Any

import torch

from abaw.errors import InputError


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of abaw; its weights are mapped into memory.

    Raises:
        InputError: If it is missing, damaged, or not one of abaw's.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint {path}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if "class_names" not in checkpoint["hyper_parameters"] or "state_dict" not in checkpoint:
            raise KeyError("class_names")
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(
            f"{path} is damaged, or no checkpoint of abaw; train again or take another"
        ) from error
    return checkpoint
