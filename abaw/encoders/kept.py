"""What a checkpoint keeps of its encoders beside their weights: building them again takes no other file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

ENCODERS: Final = "encoders"
"""Where a checkpoint keeps them: by slot, what :meth:`~abaw.encoders.base.Encoder.architecture` says."""

_CHECKPOINT: ContextVar[Mapping[str, Any] | None] = ContextVar("checkpoint", default=None)


@contextmanager
def encoders_of(checkpoint: Mapping[str, Any] | None) -> Iterator[None]:
    """Build encoders, within this context, as those of a checkpoint whose weights they will be given.

    Args:
        checkpoint: What is loaded; ``None`` changes nothing.
    """
    token = _CHECKPOINT.set(checkpoint)
    try:
        yield
    finally:
        _CHECKPOINT.reset(token)


def kept_of(made_from: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the checkpoint keeps of the encoder that was made from the same; ``None`` where it has none."""
    kept = (_CHECKPOINT.get() or {}).get(ENCODERS, {}).values()
    return next((architecture for architecture in kept if architecture.get("made_from") == made_from), None)


def keeps_nothing() -> bool:
    """Whether a checkpoint is loaded that was written before such things were kept."""
    checkpoint = _CHECKPOINT.get()
    return checkpoint is not None and ENCODERS not in checkpoint
