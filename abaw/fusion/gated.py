"""A gate between face and voice, for each frame and each feature."""

import torch
from torch import Tensor, nn

from abaw.fusion.base import FusionHead, check_head, zero_absent


class GatedFusion(FusionHead):
    """Gated multimodal unit: a mixture of both modalities, weighted feature by feature.

    After Arevalo et al. 2017 (arXiv 1702.01992): with h_v = tanh(W_v x_v), h_a = tanh(W_a x_a) and the gate
    z = σ(W_z [x_v; x_a]), a frame is z · h_v + (1 - z) · h_a. The paper has no missing modalities; here one
    that is alone is taken whole, and where neither is present the mixture is zero. Each frame is scored on
    its own.

    Args:
        visual_dim: Dv, the size of visual features.
        audio_dim: Da, the size of audio features.
        num_classes: C.
        hidden: Size of h_v, h_a and z.
        dropout: Dropout of the mixture.
    """

    def __init__(
        self, visual_dim: int, audio_dim: int, num_classes: int, hidden: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        check_head(visual_dim, audio_dim, num_classes, dropout, hidden=hidden)
        self.visual = nn.Linear(visual_dim, hidden)
        self.audio = nn.Linear(audio_dim, hidden)
        self.gate = nn.Linear(visual_dim + audio_dim, hidden)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, num_classes))

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
        sees, hears = video_mask[..., None], audio_mask[..., None]

        gate = self.gate(torch.cat([visual, audio], dim=-1)).sigmoid()
        seen = torch.where(hears, gate, 1) * self.visual(visual).tanh()
        heard = torch.where(sees, 1 - gate, 1) * self.audio(audio).tanh()
        logits: Tensor = self.classifier(torch.where(sees, seen, 0) + torch.where(hears, heard, 0))
        return logits
