"""Each modality decides on its own; the decisions are averaged."""

import torch
from torch import Tensor

from abaw.fusion.base import FusionHead, check_head, zero_absent
from abaw.fusion.layer import mlp


class LateFusion(FusionHead):
    """Averages, frame by frame, the logits of the modalities that are present.

    Two networks with one hidden layer, which never meet. Where neither modality is present all logits are
    zero: no opinion.

    Args:
        visual_dim: Dv, the size of visual features.
        audio_dim: Da, the size of audio features.
        num_classes: C.
        hidden: Size of each hidden layer.
        dropout: Dropout of the hidden layers.
    """

    def __init__(
        self, visual_dim: int, audio_dim: int, num_classes: int, hidden: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        check_head(visual_dim, audio_dim, num_classes, dropout, hidden=hidden)
        self.visual = mlp(visual_dim, hidden, num_classes, dropout)
        self.audio = mlp(audio_dim, hidden, num_classes, dropout)

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
        opinions = torch.stack([self.visual(visual), self.audio(audio)], dim=2)
        present = torch.stack([video_mask, audio_mask], dim=2)[..., None]
        return torch.where(present, opinions, 0).sum(dim=2) / present.sum(dim=2).clamp_min(1)
