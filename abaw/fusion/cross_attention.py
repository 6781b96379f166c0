"""Cross-attention as it is without the safety."""

import torch
from torch import Tensor, nn

from abaw.fusion.base import FusionHead, check_head, zero_absent
from abaw.fusion.layer import SafeTransformerLayer
from abaw.fusion.position import sinusoidal_position, time_in_window
from abaw.ranges import MOST_FEATURES, check_count


class CrossAttentionFusion(FusionHead):
    """Face attends to voice, voice to face, and what is missing is zeros that are attended to like the rest.

    What safe cross-attention is to be compared with. Each stream is projected and given its position, takes
    in the other by one pre-norm layer of cross-attention (Vaswani et al. 2017, eq. 1), and the two stand side
    by side before the classifier. Padding alone is masked: the model has to learn by itself what zeros mean,
    and attention spreads over them.

    Args:
        visual_dim: Dv, the size of visual features.
        audio_dim: Da, the size of audio features.
        num_classes: C.
        dim: Width of the streams; even, and divisible by ``num_heads``.
        num_heads: Attention heads.
        dropout: Dropout in the cross-attention layers.

    Raises:
        ValueError: If ``dim`` is odd or ``num_heads`` does not divide it.
    """

    def __init__(
        self,
        visual_dim: int,
        audio_dim: int,
        num_classes: int,
        dim: int = 128,
        num_heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_head(visual_dim, audio_dim, num_classes, dropout)
        check_count(1, MOST_FEATURES, dim=dim)
        if dim % 2:
            raise ValueError(f"dim must be even, for half sines and half cosines; got {dim}")
        self.dim = dim
        self.visual = nn.Sequential(nn.Linear(visual_dim, dim), nn.LayerNorm(dim))
        self.audio = nn.Sequential(nn.Linear(audio_dim, dim), nn.LayerNorm(dim))
        self.visual_cross = SafeTransformerLayer(dim, num_heads, dropout)
        self.audio_cross = SafeTransformerLayer(dim, num_heads, dropout)
        self.classifier = nn.Sequential(nn.LayerNorm(2 * dim), nn.Linear(2 * dim, num_classes))

    def forward(
        self,
        visual: Tensor,
        audio: Tensor,
        video_mask: Tensor,
        audio_mask: Tensor,
        time: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Score every frame; see :meth:`FusionHead.forward`.

        ``time`` counts from the window's first real frame; without it, frames are 1/30 s apart.
        """
        if frame_mask is None:
            frame_mask = torch.ones_like(video_mask)
        position = sinusoidal_position(time_in_window(time, frame_mask), self.dim).to(visual.dtype)
        seen = self.visual(zero_absent(visual, video_mask, frame_mask)[0]) + position
        heard = self.audio(zero_absent(audio, audio_mask, frame_mask)[0]) + position
        # Query and context share the mask of real frames, so the layers' fallback has nothing to do: it only
        # keeps a sample finite that is padding throughout.
        both = [
            self.visual_cross(seen, frame_mask, heard, frame_mask),
            self.audio_cross(heard, frame_mask, seen, frame_mask),
        ]
        logits: Tensor = self.classifier(torch.cat(both, dim=-1))
        return logits
