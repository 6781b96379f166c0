"""Hiding a modality while training, so that the model learns to do without it."""

from typing import Any

import torch
from torch import Tensor, nn

from abaw.ranges import MOST_STEPS, check_count, check_number
from abaw.recorded import Recorded


class ModalityDropout(Recorded, nn.Module):
    """Drops the face or the voice of a sample at random while training; does nothing in evaluation.

    Only samples that have both somewhere in their window take part: a sample with one modality alone keeps
    it, so nothing that had something is left with nothing. Of those samples, each modality is drawn on its
    own with its probability; where both are drawn, a fair coin says which of the two goes. So, with ``v =
    p_visual`` and ``a = p_audio``, exactly

    - the face is dropped with probability ``v · (1 - a / 2)``,
    - the voice with ``a · (1 - v / 2)``,
    - neither with ``(1 - v) · (1 - a)``.

    With ``p_audio=0`` the face is dropped with probability ``p_visual``. arXiv 2603.08034 drops the visual
    modality but does not publish its probability; the default is this library's own.

    By default a modality is dropped over the whole window. With ``span=(low, high)`` it goes for a stretch
    of consecutive frames, as when a hand passes before the face or a lorry drowns the voice: a share of the
    window drawn uniformly from that range, rounded to frames and at least one, at a place drawn uniformly
    from those where it fits. The window ends at the last frame that has anything; padding is no part of it.

    With ``ramp_steps=n`` the probabilities rise linearly, from 0 at the first training step to their full
    value after n steps. A step is one forward pass in training mode; how many there were is kept in the
    checkpoint.

    The draws come from torch's default generator of the masks' device, whose state and the count of steps
    settle them; nothing waits for the device.

    Args:
        p_visual: Probability of drawing the face.
        p_audio: Probability of drawing the voice.
        span: Smallest and largest share of the window that is dropped, 0 < low ≤ high ≤ 1; ``None`` for all
            of it.
        ramp_steps: Training steps until the probabilities are reached; 0 for at once.

    Raises:
        ValueError: If an argument is out of its range.

    >>> everything = torch.ones(1, 3, dtype=torch.bool)
    >>> ModalityDropout(p_visual=1.0)(everything, everything)
    (tensor([[False, False, False]]), tensor([[True, True, True]]))
    """

    step: Tensor

    def __init__(
        self,
        p_visual: float = 0.1,
        p_audio: float = 0.0,
        span: tuple[float, float] | None = None,
        ramp_steps: int = 0,
    ) -> None:
        super().__init__()
        check_number(0, 1, p_visual=p_visual, p_audio=p_audio)
        if span is not None and not 0 < span[0] <= span[1] <= 1:
            raise ValueError(f"span holds two shares of the window, 0 < low ≤ high ≤ 1; got {span}")
        check_count(0, MOST_STEPS, ramp_steps=ramp_steps)
        self.p_visual = p_visual
        self.p_audio = p_audio
        self.span = span
        self.ramp_steps = ramp_steps
        if ramp_steps:
            self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_fit_to_ramp)  # type: ignore[no-untyped-call]

    def forward(self, video_mask: Tensor, audio_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Draw what is dropped.

        Args:
            video_mask: bool (B, T), True where a face is there.
            audio_mask: bool (B, T), True where there is sound.

        Returns:
            Both masks (B, T), False also where a modality was dropped. The features are the caller's to zero.
        """
        if not self.training:
            return video_mask, audio_mask
        # In bfloat16, which Lightning can make the default, a draw has few values.
        shape, where = (3, video_mask.shape[0], 1), video_mask.device
        visual_draw, audio_draw, coin = torch.rand(shape, device=where, dtype=torch.float32)
        rise = self._rise()
        has_both = video_mask.any(dim=1, keepdim=True) & audio_mask.any(dim=1, keepdim=True)
        visual_drawn = has_both & (visual_draw < self.p_visual * rise)
        audio_drawn = has_both & (audio_draw < self.p_audio * rise)
        visual_goes_first = coin < 0.5
        drop_visual = visual_drawn & (~audio_drawn | visual_goes_first)
        drop_audio = audio_drawn & (~visual_drawn | ~visual_goes_first)
        if self.span is not None:
            stretch = _draw_stretch(video_mask | audio_mask, *self.span)
            drop_visual, drop_audio = drop_visual & stretch, drop_audio & stretch
        return video_mask & ~drop_visual, audio_mask & ~drop_audio

    def _rise(self) -> Tensor | float:
        """The factor on the probabilities at this step, which is counted."""
        if not self.ramp_steps:
            return 1.0
        rise = (self.step / self.ramp_steps).clamp(max=1)
        self.step += 1
        return rise

    def extra_repr(self) -> str:
        """The arguments that say something, for ``print(model)``."""
        text = f"p_visual={self.p_visual}, p_audio={self.p_audio}"
        if self.span is not None:
            text += f", span={self.span}"
        return text + (f", ramp_steps={self.ramp_steps}" if self.ramp_steps else "")


def _draw_stretch(present: Tensor, low: float, high: float) -> Tensor:
    """A stretch of consecutive frames for each sample, bool (B, T), within the frames up to the last present.

    There is one stretch a sample: at most one of its modalities is dropped.
    """
    frame = torch.arange(present.shape[1], device=present.device)
    frames = (present * (frame + 1)).amax(dim=1, keepdim=True)
    share_draw, place_draw = torch.rand(2, len(present), 1, device=present.device, dtype=torch.float32)
    length = (frames * (low + (high - low) * share_draw)).round().clamp(min=1)
    # A draw below 1 times the number of places can be rounded up to that number.
    start = (place_draw * (frames - length + 1)).floor().clamp(max=frames - length)
    stretch: Tensor = (start <= frame) & (frame < start + length)
    return stretch


def _fit_to_ramp(module: ModalityDropout, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let weights be loaded whether they were trained with a ramp or not."""
    if not module.ramp_steps:
        state_dict.pop(f"{prefix}step", None)
    else:
        state_dict.setdefault(f"{prefix}step", module.step)
