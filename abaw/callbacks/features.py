"""From the chunks of a loader to the features of whole videos."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from abaw.data.batch import Batch
from abaw.module import Features


@dataclass(frozen=True)
class VideoFeatures:
    """All that a fusion head and a vote need to know of one video.

    Attributes:
        video_id: The video's name.
        visual: float (N, Dv), zeros where ``video_mask`` is False.
        audio: float (N, Da), zeros where ``audio_mask`` is False.
        video_mask: bool (N,).
        audio_mask: bool (N,).
        time: float64 (N,), seconds on the video's own clock; on the CPU, since not every device has float64.
        target: int64 (N,), ``IGNORE_INDEX`` where not annotated.
        lead: Seconds of sound before the first frame of a window, as in training.
    """

    video_id: str
    visual: Tensor
    audio: Tensor
    video_mask: Tensor
    audio_mask: Tensor
    time: Tensor
    target: Tensor
    lead: float

    @property
    def num_frames(self) -> int:
        """N, the number of frames that were seen."""
        return len(self.target)

    def without_video(self) -> "VideoFeatures":
        """The same video as if it showed no face."""
        return replace(
            self, visual=torch.zeros_like(self.visual), video_mask=torch.zeros_like(self.video_mask)
        )

    def without_audio(self) -> "VideoFeatures":
        """The same video as if it had no sound track."""
        return replace(self, audio=torch.zeros_like(self.audio), audio_mask=torch.zeros_like(self.audio_mask))


class VideoAssembler:
    """Joins consecutive chunks into videos; a batch holds chunks of one video alone, in order."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._parts: list[dict[str, Tensor]] = []
        self._lead = 0.0
        self._frames_left = 0

    def add(self, features: Features, batch: Batch) -> Iterator[VideoFeatures]:
        """Take a batch's features, and yield each video that it completes.

        Raises:
            ValueError: If the batch mixes videos.
        """
        name = batch["video_id"][0]
        if set(batch["video_id"]) != {name}:
            raise ValueError(
                f"an evaluation batch holds chunks of one video, got {sorted(set(batch['video_id']))}"
            )
        if name != self._name:
            yield from self.flush()
            self._name = name
            self._lead = float(batch["time"][0, 0])
            self._frames_left = batch["num_frames"][0]
        exists = batch["frame"] >= 0
        part = {
            "visual": features["visual"],
            "audio": features["audio"],
            "video_mask": features["video_mask"],
            "audio_mask": features["audio_mask"],
            "target": batch["target"],
        }
        start = torch.tensor(batch["audio_start"], dtype=torch.float64)
        time = start[:, None] + batch["time"].cpu()
        self._parts.append({key: value[exists] for key, value in part.items()} | {"time": time[exists.cpu()]})
        self._frames_left -= len(self._parts[-1]["target"])
        if self._frames_left <= 0:
            yield from self.flush()

    def flush(self) -> Iterator[VideoFeatures]:
        """Yield what is there of a video that was cut short."""
        if self._name is not None and self._parts:
            joined = {key: torch.cat([part[key] for part in self._parts]) for key in self._parts[0]}
            # A rank without a video of its own is sent an empty one, to keep in step with the others.
            if len(joined["target"]) > 0:
                yield VideoFeatures(self._name, **joined, lead=self._lead)
        self._name, self._parts = None, []
