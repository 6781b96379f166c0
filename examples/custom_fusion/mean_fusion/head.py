"""Project, average what is present, classify."""

import torch
from torch import Tensor, nn

from abaw.fusion import FusionHead


class MeanFusion(FusionHead):
    """Averages the projected features of the modalities that are present; zeros where neither is.

    Args:
        visual_dim: Size of visual features.
        audio_dim: Size of audio features.
        num_classes: Number of classes.
        dim: Size of what is averaged.
    """

    def __init__(self, visual_dim: int, audio_dim: int, num_classes: int, dim: int = 64) -> None:
        super().__init__()
        # Without a bias, what is absent stays zero.
        self.visual = nn.Linear(visual_dim, dim, bias=False)
        self.audio = nn.Linear(audio_dim, dim, bias=False)
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
        """Logits (B, T, C); each frame on its own, so padding needs no care."""
        sees, hears = video_mask[..., None], audio_mask[..., None]
        seen = self.visual(torch.where(sees, visual, 0))
        heard = self.audio(torch.where(hears, audio, 0))
        logits: Tensor = self.classifier((seen + heard) / (sees.int() + hears.int()).clamp_min(1))
        return logits
