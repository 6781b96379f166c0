"""The simplest head: one frame's features side by side."""

import torch
from torch import Tensor

from abaw.fusion.base import FusionHead, check_head, zero_absent
from abaw.fusion.layer import mlp


class ConcatFusion(FusionHead):
    """Concatenates both features of a frame, zeros for what is absent, and two flags saying what is present.

    A network with one hidden layer scores each frame on its own. The baseline that a temporal head must beat.

    Args:
        visual_dim: Dv, the size of visual features.
        audio_dim: Da, the size of audio features.
        num_classes: C.
        hidden: Size of the hidden layer.
        dropout: Dropout of the hidden layer.
    """

    def __init__(
        self, visual_dim: int, audio_dim: int, num_classes: int, hidden: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        check_head(visual_dim, audio_dim, num_classes, dropout, hidden=hidden)
        self.classifier = mlp(visual_dim + audio_dim + 2, hidden, num_classes, dropout)

    def forward(
        self,
        visual: Tensor,
        audio: Tensor,
        video_mask: Tensor,
        audio_mask: Tensor,
        time: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Score every frame; see :meth:`FusionHead.forward`. ``time`` is not used."""
        visual, video_mask = zero_absent(visual, video_mask, frame_mask)
        audio, audio_mask = zero_absent(audio, audio_mask, frame_mask)
        present = torch.stack([video_mask, audio_mask], dim=-1).to(visual.dtype)
        logits: Tensor = self.classifier(torch.cat([visual, audio, present], dim=-1))
        return logits
