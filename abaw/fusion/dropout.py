"""Hiding a whole modality while training, so that the model learns to do without it."""

import torch
from torch import Tensor, nn

from abaw.recorded import Recorded


class ModalityDropout(Recorded, nn.Module):
    """Drops the face or the voice of a whole sample at random while training; does nothing in evaluation.

    Only samples that have both somewhere in their window take part: a sample with one modality alone keeps
    it, so nothing that had something is left with nothing. Of those samples, each modality is drawn on its
    own with its probability; where both are drawn, a fair coin says which of the two goes. So, with ``v =
    p_visual`` and ``a = p_audio``, exactly

    - the face is dropped with probability ``v · (1 - a / 2)``,
    - the voice with ``a · (1 - v / 2)``,
    - neither with ``(1 - v) · (1 - a)``.

    With ``p_audio=0`` the face is dropped with probability ``p_visual``. arXiv 2603.08034 drops the visual
    modality but does not publish its probability; the default is this library's own.

    The draws come from torch's default generator of the masks' device; nothing waits for the device.

    Args:
        p_visual: Probability of drawing the face.
        p_audio: Probability of drawing the voice.

    Raises:
        ValueError: If a probability is outside [0, 1].

    >>> everything = torch.ones(1, 3, dtype=torch.bool)
    >>> ModalityDropout(p_visual=1.0)(everything, everything)
    (tensor([[False, False, False]]), tensor([[True, True, True]]))
    """

    def __init__(self, p_visual: float = 0.1, p_audio: float = 0.0) -> None:
        super().__init__()
        for name, p in (("p_visual", p_visual), ("p_audio", p_audio)):
            if not 0 <= p <= 1:
                raise ValueError(f"{name} is a probability, from 0 to 1; got {p}")
        self.p_visual = p_visual
        self.p_audio = p_audio

    def forward(self, video_mask: Tensor, audio_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Draw what is dropped.

        Args:
            video_mask: bool (B, T), True where a face is there.
            audio_mask: bool (B, T), True where there is sound.

        Returns:
            Both masks (B, T), all False for a modality that was dropped. The features are the caller's to
            zero.
        """
        if not self.training:
            return video_mask, audio_mask
        visual_draw, audio_draw, coin = torch.rand(3, video_mask.shape[0], 1, device=video_mask.device)
        has_both = video_mask.any(dim=1, keepdim=True) & audio_mask.any(dim=1, keepdim=True)
        visual_drawn = has_both & (visual_draw < self.p_visual)
        audio_drawn = has_both & (audio_draw < self.p_audio)
        visual_goes_first = coin < 0.5
        drop_visual = visual_drawn & (~audio_drawn | visual_goes_first)
        drop_audio = audio_drawn & (~visual_drawn | ~visual_goes_first)
        return video_mask & ~drop_visual, audio_mask & ~drop_audio

    def extra_repr(self) -> str:
        """The probabilities, for ``print(model)``."""
        return f"p_visual={self.p_visual}, p_audio={self.p_audio}"
