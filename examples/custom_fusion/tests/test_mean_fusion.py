"""What the command line relies on, and that the head does what it is for."""

import torch
from mean_fusion import MeanFusion

from abaw.testing import check_fusion_head


def test_keeps_the_contract() -> None:
    """Finite for every mask, no peeking, no leaks, any device and type."""
    check_fusion_head(MeanFusion(visual_dim=6, audio_dim=5, num_classes=4))


def test_averages_what_is_present() -> None:
    """The mean of both projections, or the one that is there."""
    head = MeanFusion(visual_dim=6, audio_dim=5, num_classes=4)
    visual, audio = torch.randn(1, 3, 6), torch.randn(1, 3, 5)
    sees, hears = torch.tensor([[True, True, False]]), torch.tensor([[True, False, True]])
    seen, heard = head.visual(visual)[0], head.audio(audio)[0]
    expected = torch.stack([(seen[0] + heard[0]) / 2, seen[1], heard[2]])
    torch.testing.assert_close(head(visual, audio, sees, hears)[0], head.classifier(expected))
