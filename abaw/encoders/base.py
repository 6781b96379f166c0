"""The two slots of the model that turn a modality into features."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from abaw.recorded import Recorded


class Encoder(Recorded, nn.Module, ABC):
    """What both kinds of encoders share.

    Attributes:
        out_features: D, the size of a feature vector.
    """

    out_features: int

    def provenance(self) -> dict[str, Any]:
        """What the features depend on beside the arguments and the weights, as plain data.

        Files of features keep it, and features of another provenance are refused. An encoder that reads
        files says here what it has read.
        """
        return {}

    def architecture(self) -> dict[str, Any]:
        """What a checkpoint keeps of the encoder beside its arguments and its weights, as plain data.

        An encoder that reads files says here what it needs of them to be built again: the weights come from
        the checkpoint. It asks :func:`~abaw.encoders.kept.kept_of` for it, by ``made_from``.
        """
        return {}


class VisualEncoder(Encoder):
    """Turns face crops into one feature vector a frame."""

    @abstractmethod
    def forward(self, video: Tensor, video_mask: Tensor) -> Tensor:
        """Encode the frames that show a face.

        Args:
            video: uint8 (B, T, 3, H, W), RGB crops.
            video_mask: bool (B, T), True where a face is there.

        Returns:
            Features (B, T, D), zeros where ``video_mask`` is False.
        """


class AudioEncoder(Encoder):
    """Turns sound into one feature vector a frame."""

    @abstractmethod
    def forward(self, audio: Tensor, time: Tensor, audio_mask: Tensor) -> Tensor:
        """Encode sound and read the features off at the frames' times.

        Args:
            audio: float32 (B, S), mono, 16 kHz.
            time: float32 (B, T), seconds from the first audio sample to each frame.
            audio_mask: bool (B, T), True where the track covers the frame.

        Returns:
            Features (B, T, D), zeros where ``audio_mask`` is False.
        """
