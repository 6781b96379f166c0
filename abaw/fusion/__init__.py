"""Features to logits: the fusion slot, its implementations, and the parts they are made of.

Importing this package imports torch and einops alone.
"""

from abaw.fusion.attention import SafeCrossAttention
from abaw.fusion.base import FusionHead
from abaw.fusion.concat import ConcatFusion
from abaw.fusion.cross_attention import CrossAttentionFusion
from abaw.fusion.dropout import ModalityDropout
from abaw.fusion.dual_branch import DualBranchTransformer
from abaw.fusion.gated import GatedFusion
from abaw.fusion.late import LateFusion

__all__ = [
    "ConcatFusion",
    "CrossAttentionFusion",
    "DualBranchTransformer",
    "FusionHead",
    "GatedFusion",
    "LateFusion",
    "ModalityDropout",
    "SafeCrossAttention",
]
