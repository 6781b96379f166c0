"""What is asked of a data module beyond its batches: the classes' names, and how often each occurs."""

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule
from torch import Tensor

from abaw.errors import InputError
from abaw.losses import FrameLoss
from abaw.recorded import class_of


def class_counts_for(
    loss: Namespace | None, data: LightningDataModule, checkpoint: Mapping[str, Any] | None
) -> list[int] | None:
    """The training frames of each class, for a loss that asks for them.

    Args:
        loss: The ``class_path`` and ``init_args`` of the loss.
        data: Reads the training labels, unless the checkpoint holds what they said.
        checkpoint: What the model starts from, where it must stay what it was trained as.

    Returns:
        C counts, or None for a loss that takes none.

    Raises:
        InputError: Something is wrong with the corpus.
    """
    kind = FrameLoss if loss is None else class_of(loss)
    if loss is None or not issubclass(kind, FrameLoss) or not kind.takes_class_counts(loss.init_args):
        return None
    trained = (checkpoint or {}).get("hyper_parameters", {}).get("loss") or {}
    counts: list[int] | None = trained.get("init_args", {}).get("class_counts")
    if counts is not None:
        return counts
    given: Tensor | None = getattr(data, "class_counts", None)
    if given is None:
        raise InputError(
            f"{kind.__name__} wants to know how often each class occurs, and {type(data).__name__} has no "
            "property class_counts, a tensor of the training frames of each: add it, or take another loss"
        )
    counted: list[int] = given.tolist()
    return counted


def class_names_of(data: LightningDataModule) -> list[str]:
    """The names of the C classes, as a data module tells them.

    Raises:
        InputError: It doesn't.
    """
    names = getattr(data, "class_names", None)
    if names is None:
        raise InputError(
            f"{type(data).__name__} has no property class_names, the names of the C classes that its targets "
            "number, by which the model is sized: add it"
        )
    return list(names)
