"""Facial expressions in the wild, from face and voice, either of which may be missing.

The public names are imported when they are first used: ``import abaw`` itself costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from abaw.labels import EXPRESSIONS, IGNORE_INDEX
from abaw.version import __version__

if TYPE_CHECKING:
    from abaw.module import ExpressionModule
    from abaw.predict import predict_video

__all__ = ["EXPRESSIONS", "IGNORE_INDEX", "ExpressionModule", "__version__", "predict_video"]

_LAZY = {"ExpressionModule": "abaw.module", "predict_video": "abaw.predict"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
