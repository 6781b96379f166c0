"""What whole-video inference hands to whoever wants its results."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, TypeVar

import lightning.pytorch as pl
from torch import Tensor, distributed

from abaw.engine import VideoFeatures

DecidedBy = Literal["vote", "held-out parameters", "final parameters"]
_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class VideoScores:
    """The voted scores of one video under one condition, on the CPU.

    Attributes:
        video_id: The video's name, person suffix included.
        condition: What the head was given: ``"audio+video"``, ``"video only"``, ``"audio only"``, or what
            else was made of the features.
        scores: float32 (N, C), probabilities, as the windows voted; zeros where ``covered`` is False.
        labels: int64 (N,), the classes that were decided on, in every frame.
        covered: bool (N,), True where at least one window saw the frame.
        target: int64 (N,), class index, ``IGNORE_INDEX`` where not annotated.
        video_mask: bool (N,), True where a face was there.
        audio_mask: bool (N,), True where the sound track covered the frame.
        decided_by: How ``labels`` came about: as the largest scores, or from ``postprocess.yaml``, with
            parameters that were fitted without this video because it is in a fold, or with the final ones.
        num_excluded: How many votes (frames of windows) were left out because they were not finite.
    """

    video_id: str
    condition: str
    scores: Tensor
    labels: Tensor
    covered: Tensor
    target: Tensor
    video_mask: Tensor
    audio_mask: Tensor
    decided_by: DecidedBy = "vote"
    num_excluded: int = 0

    @property
    def answered(self) -> Tensor:
        """Which frames have an answer of their own, bool (N,): a score, and a face or a voice behind it."""
        return self.covered & (self.video_mask | self.audio_mask)


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


def gather(mine: dict[_Key, _Value]) -> dict[_Key, _Value]:
    """What all ranks have, by key, on every rank: what two of them have counts once."""
    parts: list[dict[_Key, _Value]] = [mine]
    if distributed.is_available() and distributed.is_initialized():
        parts = [{} for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(parts, mine)
    return {key: value for part in parts for key, value in part.items()}
