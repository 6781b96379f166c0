"""The slot of the model that turns two feature sequences into logits."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from abaw.ranges import MOST_FEATURES, check_count, check_number, check_weights
from abaw.recorded import Recorded


class FusionHead(Recorded, nn.Module, ABC):
    """Fuses visual and audio features into logits; the class to subclass for a head of one's own.

    A subclass takes ``visual_dim``, ``audio_dim`` and ``num_classes`` first: the command line fills them in
    from the encoders and the corpus. It promises:

    - logits, and the gradients of a loss on them, are finite for every mask, all-absent included;
    - the logits of real frames depend neither on padding (its masks and times included) nor on the other
      samples of the batch;
    - what lies at absent places, NaN and infinity included, changes neither logits nor gradients;
    - logits are on the device of features and parameters, and (autocast apart) of no narrower type;
    - ``torch.export`` takes it.

    :func:`abaw.testing.check_fusion_head` says in words which of these a head breaks.
    """

    @abstractmethod
    def forward(
        self,
        visual: Tensor,
        audio: Tensor,
        video_mask: Tensor,
        audio_mask: Tensor,
        time: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Score every frame.

        Args:
            visual: (B, T, Dv) features; nothing to go by where ``video_mask`` is False.
            audio: (B, T, Da) features; nothing to go by where ``audio_mask`` is False.
            video_mask: bool (B, T), True where a face is there.
            audio_mask: bool (B, T), True where there is sound.
            time: float32 (B, T), seconds on a clock of the window's own; ``None`` means frame numbers serve.
            frame_mask: bool (B, T), True where the frame exists; ``None`` means that no frame is padding.

        Returns:
            Logits (B, T, C).
        """


def zero_absent(features: Tensor, mask: Tensor, frame_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Set features to zero where they are absent or padded, whatever lies there.

    Before any projection: a product with zero afterwards would bring NaN back, forward or backward.

    Args:
        features: (B, T, D).
        mask: bool (B, T), True where the modality is present.
        frame_mask: bool (B, T), True where the frame exists; ``None`` means everywhere.

    Returns:
        Features (B, T, D), and the mask (B, T) of what is both present and real.
    """
    if frame_mask is not None:
        mask = mask & frame_mask
    return torch.where(mask[..., None], features, 0), mask


def check_head(visual_dim: int, audio_dim: int, num_classes: int, dropout: float, **sizes: int) -> None:
    """Check what every head is made with, and the sizes of what lies between, by name.

    Raises:
        InputError: If a number is out of range, or memory can't hold what is asked for.
    """
    check_count(
        1, MOST_FEATURES, visual_dim=visual_dim, audio_dim=audio_dim, num_classes=num_classes, **sizes
    )
    check_number(0, 1, below=True, dropout=dropout)
    for name, size in sizes.items():
        check_weights(2 * (visual_dim + audio_dim + num_classes) * size, **{name: size})
