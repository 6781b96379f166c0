"""Facial expressions in the wild, from face and voice, either of which may be missing.

The public names are imported when they are first used: ``import abaw`` itself costs no torch.
"""

from typing import TYPE_CHECKING

from abaw.labels import EXPRESSIONS, IGNORE_INDEX
from abaw.lazy import lazily
from abaw.version import __version__

if TYPE_CHECKING:
    from abaw.module import ExpressionModule
    from abaw.predict import predict_video

__all__ = ["EXPRESSIONS", "IGNORE_INDEX", "ExpressionModule", "__version__", "predict_video"]
__getattr__, __dir__ = lazily(__name__, {"ExpressionModule": "abaw.module", "predict_video": "abaw.predict"})
