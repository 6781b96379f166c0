"""Whole videos: chunks of features -> features of a video -> overlapping windows -> one vote a frame.

Knows nothing of a Trainer: the callback :class:`~abaw.callbacks.SlidingWindowInference` and the function
:func:`abaw.predict_video` both run on it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from abaw.data.batch import Batch, on_host
from abaw.encoding import Features
from abaw.fusion import FusionHead
from abaw.module import ExpressionModule
from abaw.postprocess import Average, SoftVoting, Weighting, window_starts
from abaw.ranges import MOST_FRAMES, MOST_IN_BATCH, check_count, check_memory
from abaw.transfer import ahead


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
        frame_step: Frames from one frame of a window to the next, where this video has a step of its own.
    """

    video_id: str
    visual: Tensor
    audio: Tensor
    video_mask: Tensor
    audio_mask: Tensor
    time: Tensor
    target: Tensor
    lead: float
    frame_step: int | None = None

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


def compile_encoders(model: ExpressionModule) -> None:
    """Have a model's encoders compiled (``torch.compile``) for calls without gradients."""
    for encoder in (model.visual_encoder, model.audio_encoder):
        if encoder is not None:
            encoder.compile()


class VideoAssembler:
    """Joins consecutive chunks into videos; a batch holds chunks of one video alone, in order.

    Features are written where they stay: no more than one video is held, and that once. Nothing waits for the
    device that computes them.
    """

    def __init__(self) -> None:
        self._name: str | None = None
        self._lead = 0.0
        self._frame_step: int | None = None
        self._whole: dict[str, Tensor] = {}
        self._seen = 0

    def add(self, features: Features, batch: Batch) -> Iterator[VideoFeatures]:
        """Take a batch's features, and yield each video that it completes.

        Raises:
            ValueError: If the batch mixes videos, or has padding before a frame.
        """
        name = batch["video_id"][0]
        if set(batch["video_id"]) != {name}:
            raise ValueError(
                f"an evaluation batch holds chunks of one video, got {sorted(set(batch['video_id']))}"
            )
        host = on_host(batch)
        exists = host.frame.cpu().flatten() >= 0
        count = int(exists.sum())
        if not exists[:count].all():
            raise ValueError(f"{name}: padding comes before a frame; chunks are consecutive")
        start = torch.tensor(batch["audio_start"], dtype=torch.float64)
        whole = {
            "visual": features["visual"],
            "audio": features["audio"],
            "video_mask": features["video_mask"],
            "audio_mask": features["audio_mask"],
            "target": batch["target"],
            "time": start[:, None] + host.time.cpu(),
        }
        part = {key: value.flatten(0, 1)[:count] for key, value in whole.items()}
        if name != self._name:
            yield from self.flush()
            self._name = name
            self._lead = float(host.time[0, 0])
            self._frame_step = batch["frame_step"][0] if "frame_step" in batch else None
            frames = batch["num_frames"][0]
            self._whole = {key: value.new_empty(frames, *value.shape[1:]) for key, value in part.items()}
        end = self._seen + count
        for key, value in part.items():
            self._whole[key][self._seen : end] = value
        self._seen = end
        if self._seen >= len(self._whole["target"]):
            yield from self.flush()

    def flush(self) -> Iterator[VideoFeatures]:
        """Yield what is there of a video that was cut short."""
        # A rank without a video of its own is sent an empty one, to keep in step with the others.
        if self._name is not None and self._seen > 0:
            seen = {key: value[: self._seen] for key, value in self._whole.items()}
            yield VideoFeatures(self._name, **seen, lead=self._lead, frame_step=self._frame_step)
        self._name, self._whole, self._seen = None, {}, 0


class WindowVoter:
    """Runs a fusion head over the overlapping windows of one video's features, and lets them vote.

    With ``frame_step`` k, windows take every k-th frame as in training, and each of the k phases is scored,
    so that every frame gets its label. Nothing waits for the device before a phase is finished.

    Args:
        window: Frames in a window, as in training.
        stride: Steps between the starts of windows; ``None`` means half a window.
        frame_step: Frames from one frame of a window to the next; a video's own goes before it.
        weighting: Weight of a frame by its place in the window, see :class:`~abaw.postprocess.SoftVoting`.
        average: Whether the windows' probabilities or their logits are averaged.
        batch_size: Windows that pass the head at once; no result depends on it.
        compile: Whether heads are compiled (``torch.compile``) for batches of exactly ``batch_size`` windows;
            the last one is filled up with padding.

    Attributes:
        num_excluded: How many votes (frames of windows) of the last video were left out because they were
            not finite.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(
        self,
        window: int = 64,
        stride: int | None = None,
        frame_step: int = 1,
        weighting: Weighting = "uniform",
        average: Average = "probability",
        batch_size: int = 256,
        compile: bool = False,
    ) -> None:
        check_count(1, MOST_FRAMES, window=window, stride=stride, frame_step=frame_step)
        check_count(1, MOST_IN_BATCH, batch_size=batch_size)
        stride = max(1, window // 2) if stride is None else stride
        self.window = window
        self.stride = stride
        self.frame_step = frame_step
        self.weighting: Weighting = weighting
        self.average: Average = average
        self.batch_size = batch_size
        self.compile = compile
        self.num_excluded = 0
        self._compiled: tuple[FusionHead, Callable[..., Tensor]] | None = None

    @torch.no_grad()
    def vote(self, head: FusionHead, features: VideoFeatures, num_classes: int) -> tuple[Tensor, Tensor]:
        """Run ``head`` over the windows of one video and vote.

        Returns:
            ``(scores, covered)``: float32 (N, C) probabilities, and bool (N,), True where a window saw the
            frame.
        """
        device = features.visual.device
        run = self._compile(head) if self.compile else head
        scores = torch.zeros(features.num_frames, num_classes, device=device)
        covered = torch.zeros(features.num_frames, dtype=torch.bool, device=device)
        self.num_excluded = 0
        step = features.frame_step or self.frame_step
        for phase in range(min(step, features.num_frames)):
            frames = torch.arange(phase, features.num_frames, step)
            voting = SoftVoting(
                len(frames), num_classes, self.window, self.weighting, self.average, device=device
            )
            for starts, logits in self._windows(run, features, frames):
                voting.add(logits, starts)
            scores[phase::step], covered[phase::step] = voting.finish()
            self.num_excluded += voting.num_excluded
        return scores, covered

    def _windows(
        self, head: Callable[..., Tensor], features: VideoFeatures, frames: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        device = features.visual.device
        for first in torch.split(window_starts(len(frames), self.window, self.stride), self.batch_size):
            size = features.visual.shape[1] + features.audio.shape[1]
            check_memory(4 * len(first) * self.window * size, window=self.window, batch_size=self.batch_size)
            index = first[:, None] + torch.arange(self.window)
            at = frames[index.clamp_max(len(frames) - 1)]
            # A window's clock starts where a training window's does, not with the video.
            time = (features.time[at] - features.time[at[:, :1]] + features.lead).float()
            part = [ahead(tensor, device) for tensor in (first, at, index < len(frames), time)]
            count = len(part[0])
            start, at, exists, time = self._fill_up(part) if self.compile else part
            video_mask, audio_mask = features.video_mask[at] & exists, features.audio_mask[at] & exists
            logits = head(
                features.visual[at].masked_fill(~video_mask[..., None], 0),
                features.audio[at].masked_fill(~audio_mask[..., None], 0),
                video_mask,
                audio_mask,
                time=time,
                frame_mask=exists,
            )
            yield start[:count], logits[:count]

    def _compile(self, head: FusionHead) -> Callable[..., Tensor]:
        if self._compiled is None or self._compiled[0] is not head:
            self._compiled = head, torch.compile(head, dynamic=False)
        return self._compiled[1]

    def _fill_up(self, part: list[Tensor]) -> list[Tensor]:
        """Add windows of padding (first frame, which doesn't exist) up to the one size that is compiled."""
        missing = self.batch_size - len(part[0])
        return [torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])]) for tensor in part]
