"""Which losses are told how often each class occurs, and who tells them."""

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from abaw.data.base import WindowDataModule
from abaw.losses import FrameLoss
from abaw.recorded import class_of


def class_counts_for(
    loss: Namespace | None, data: WindowDataModule[Any], checkpoint: Mapping[str, Any] | None
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
    return counts or data.class_counts.tolist()
