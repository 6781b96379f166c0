"""A fusion head of one's own: project, average what is present, classify."""

import torch
from torch import Tensor, nn

from abaw.fusion import FusionHead


class MeanFusion(FusionHead):
    """Averages the projected features of the modalities that are present."""

    def __init__(self, visual_dim: int, audio_dim: int, num_classes: int, dim: int = 64) -> None:
        super().__init__()
        self.visual = nn.Linear(visual_dim, dim)
        self.audio = nn.Linear(audio_dim, dim)
        self.classifier = nn.Sequential(nn.LayerNorm(dim), nn.GELU(), nn.Linear(dim, num_classes))

    def forward(
        self,
        visual: Tensor,
        audio: Tensor,
        video_mask: Tensor,
        audio_mask: Tensor,
        time: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T, C); zeros are averaged where nothing is present."""
        present = torch.stack([video_mask, audio_mask], dim=-1)[..., None]
        # Zeroed before the projection as well: what lies at absent places must not reach a gradient.
        visual = visual.masked_fill(~video_mask[..., None], 0)
        audio = audio.masked_fill(~audio_mask[..., None], 0)
        features = torch.stack([self.visual(visual), self.audio(audio)], dim=-2)
        total = features.masked_fill(~present, 0).sum(dim=-2)
        logits: Tensor = self.classifier(total / present.sum(dim=-2).clamp_min(1))
        return logits
