"""Tensors in files, written whole or not at all."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from abaw.files import replacing


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor] | Mapping[str, NDArray[np.generic]], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file; the bytes depend on the arguments alone where ``metadata`` has one entry.

    Raises:
        OSError: It can't be written, as where the disk is full; it has the file's name.
    """
    from safetensors import SafetensorError, numpy, torch  # here alone: who votes and decides needs no files

    with replacing(path) as temporary:
        try:
            if all(isinstance(tensor, Tensor) for tensor in tensors.values()):
                torch.save_file({**tensors}, temporary, {**metadata})  # type: ignore[dict-item]
            else:
                numpy.save_file({**tensors}, temporary, {**metadata})  # type: ignore[dict-item]
        except SafetensorError as error:
            # It knows what the system said by its text alone: "… I/O error: … (os error 28)".
            said = re.search(r"\(os error (\d+)\)", str(error))
            if said is None:
                raise
            number = int(said[1])
            raise OSError(number, os.strerror(number)) from error
