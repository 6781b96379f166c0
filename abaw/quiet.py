"""What commands print beside their results: warnings, a line each, and nothing that no user can act on."""

import logging
import warnings
from typing import Final

_ADVERTISEMENT: Final = "💡 Tip"
# Lightning's hints at what is so on purpose, and at its own use of PyTorch.
_POINTLESS: Final = (
    r".*isinstance\(treespec, LeafSpec\)",
    r".*does not have many workers",
    r".*The number of training batches .* is smaller than the logging interval",
    r"Checkpoint directory .* exists and is not empty",
    r"The dirpath has changed from",
    r"The ``compute`` method of metric ExpressionMetrics was called before",
    r"You have overridden `transfer_batch_to_device`",
)


def quieten() -> None:
    """Set logging and warnings up for a command; for whole processes, not for a notebook."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    for message in _POINTLESS:
        warnings.filterwarnings("ignore", message)
    warnings.formatwarning = _one_line  # type: ignore[assignment]


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_ADVERTISEMENT)


def _one_line(message: Warning | str, category: type[Warning], *_: object) -> str:
    kind = "warning" if category is UserWarning else category.__name__
    return f"abaw: {kind}: {' '.join(str(message).split())}\n"
