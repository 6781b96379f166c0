"""The slot of the model that turns two feature sequences into logits."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from abaw.recorded import Recorded


class FusionHead(Recorded, nn.Module, ABC):
    """Fuses visual and audio features into logits; the class to subclass for a head of one's own.

    A subclass takes ``visual_dim``, ``audio_dim`` and ``num_classes`` first: the command line fills them in
    from the encoders and the corpus. ``abaw`` relies on two promises: logits are finite for every mask,
    all-absent included, and the logits of real frames don't change with the padding.
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
            visual: (B, T, Dv) features, zeros where ``video_mask`` is False.
            audio: (B, T, Da) features, zeros where ``audio_mask`` is False.
            video_mask: bool (B, T), True where a face is there.
            audio_mask: bool (B, T), True where there is sound.
            time: float32 (B, T), seconds on a clock of the window's own; ``None`` means frame numbers serve.
            frame_mask: bool (B, T), True where the frame exists; ``None`` means that no frame is padding.

        Returns:
            Logits (B, T, C).
        """
