"""Checkpoints as they lie on the disk."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.core.saving import (
    CHECKPOINT_PAST_HPARAMS_KEYS,
    load_hparams_from_tags_csv,
    load_hparams_from_yaml,
)

from abaw.errors import InputError
from abaw.trust import check_names

INSTANTIATOR: Final = "lightning.pytorch.cli.instantiate_module"
"""What Lightning makes a module of described slots with."""


DATA_STATE: Final = "data_module"
"""Where a checkpoint keeps the state of its data module, of whatever class that is."""


def data_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the data module kept in a checkpoint; empty where it kept nothing."""
    # Lightning alone keys it by the class's own name, which a subclass doesn't share.
    keys = (DATA_STATE, "AffWild2DataModule", "FeatureDataModule")
    return next((dict(checkpoint[key]) for key in keys if key in checkpoint), {})


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


def check_hyper_parameters(
    source: str | Path | IO[bytes],
    hparams_file: str | Path | None,
    weights_only: bool | None,
    trust: Iterable[str],
) -> dict[str, Any]:
    """Refuse a checkpoint, before a module is made of it, whose hyper-parameters name foreign code.

    Args:
        source: The checkpoint: a path, an address, or an open file, which is put back to its beginning.
        hparams_file: The file that is to replace its hyper-parameters, as Lightning's loggers write it.
        weights_only: Whether its objects may be plain data and tensors alone, which is the default.
        trust: Packages whose classes may be named beside abaw's and Lightning's.

    Returns:
        The checkpoint without its weights.

    Raises:
        InputError: If it does.
    """
    if isinstance(source, (str, Path)):
        checkpoint: dict[str, Any] = TorchCheckpointIO().load_checkpoint(
            source, map_location=lambda storage, _: storage, weights_only=weights_only
        )
        where = source
    else:
        checkpoint = torch.load(source, map_location="cpu", weights_only=weights_only)
        source.seek(0)
        where = getattr(source, "name", "the checkpoint")
    for key in ("hyper_parameters", *CHECKPOINT_PAST_HPARAMS_KEYS):
        named = dict(checkpoint.get(key) or {})
        if named.get("_instantiator") == INSTANTIATOR:
            del named["_instantiator"]
        check_names(named, where, trust)
    if hparams_file is not None:
        csv = str(hparams_file).endswith(".csv")
        read = load_hparams_from_tags_csv if csv else load_hparams_from_yaml
        check_names(read(hparams_file), hparams_file, trust)
    checkpoint.pop("state_dict", None)
    return checkpoint
