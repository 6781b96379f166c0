"""The two slots of the model that turn a modality into features."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from abaw.recorded import Recorded


class VisualEncoder(Recorded, nn.Module, ABC):
    """Turns face crops into one feature vector a frame.

    Attributes:
        out_features: D, the size of a feature vector.
    """

    out_features: int

    @abstractmethod
    def forward(self, video: Tensor, video_mask: Tensor) -> Tensor:
        """Encode the frames that show a face.

        Args:
            video: uint8 (B, T, 3, H, W), RGB crops.
            video_mask: bool (B, T), True where a face is there.

        Returns:
            Features (B, T, D), zeros where ``video_mask`` is False.
        """


class AudioEncoder(Recorded, nn.Module, ABC):
    """Turns sound into one feature vector a frame.

    Attributes:
        out_features: D, the size of a feature vector.
    """

    out_features: int

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
