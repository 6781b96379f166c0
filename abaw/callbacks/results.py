"""What whole-video inference hands to whoever wants its results."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import lightning.pytorch as pl
from torch import Tensor

from abaw.engine import VideoFeatures


@dataclass(frozen=True)
class VideoScores:
    """The voted scores of one video under one condition, on the CPU.

    Attributes:
        video_id: The video's name, person suffix included.
        condition: What the head was given: ``"audio+video"``, ``"video only"`` or ``"audio only"``.
        scores: float32 (N, C), probabilities; zeros where ``covered`` is False.
        covered: bool (N,), True where at least one window saw the frame.
        target: int64 (N,), class index, ``IGNORE_INDEX`` where not annotated.
        video_mask: bool (N,), True where a face was there.
        audio_mask: bool (N,), True where the sound track covered the frame.
    """

    video_id: str
    condition: str
    scores: Tensor
    covered: Tensor
    target: Tensor
    video_mask: Tensor
    audio_mask: Tensor


class VideoScoresConsumer(ABC):
    """A callback (mix this in) that is given every video's scores as soon as they are voted.

    Each rank hands over its own videos alone; gather at the epoch's end what must be whole.
    """

    @abstractmethod
    def on_video_scored(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: VideoScores
    ) -> None:
        """Take one video's scores."""


class VideoFeaturesConsumer(ABC):
    """A callback (mix this in) that is given every video's features as soon as they are complete.

    Each rank hands over its own videos alone, before it scores them.
    """

    @abstractmethod
    def on_video_encoded(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, video: VideoFeatures
    ) -> None:
        """Take one video's features; they lie on the module's device and are not to be changed."""
