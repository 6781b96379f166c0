"""What travels from the data to the model: one dict of tensors."""

from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor
from typing_extensions import NotRequired


@dataclass(frozen=True)
class HostPart:
    """What of a batch says which of its places are filled, and when they are.

    No dictionary: DistributedDataParallel would copy its tensors to the device.

    Attributes:
        video_mask: bool (B, T).
        time: float32 (B, T).
        frame: int64 (B, T).
    """

    video_mask: Tensor
    time: Tensor
    frame: Tensor


class Batch(TypedDict):
    """A batch of B windows of T frames; every mask is bool and True means present.

    Two different things are kept apart: a frame that is *padding* (``frame`` is -1; no result may depend on
    it) and a frame that exists and whose face or voice is *absent*.
    """

    video: NotRequired[Tensor]
    """uint8 (B, T, 3, H, W): aligned face crops, RGB; zeros where there is no face."""
    video_mask: Tensor
    """bool (B, T): a face is there."""
    audio: NotRequired[Tensor]
    """float32 (B, S): mono, 16 kHz, in [-1, 1]; S is one constant for the whole run."""
    audio_mask: Tensor
    """bool (B, T): the sound track covers this frame."""
    time: Tensor
    """float32 (B, T): seconds from the first audio sample to each frame."""
    target: Tensor
    """int64 (B, T): class index, ``IGNORE_INDEX`` where not annotated or padded. A batch that was mixed for
    training may hold float (B, T, C) instead: probabilities, zeros where not annotated or padded."""
    frame: Tensor
    """int64 (B, T): 0-based frame number in the video, -1 where padded."""
    video_id: list[str]
    """B names: which video."""
    audio_start: NotRequired[list[float]]
    """B times: when the first audio sample is, in seconds on the video's own clock. ``audio_start + time``
    puts the chunks of one video on one ruler; plain floats, because that takes double precision and not every
    device has it."""
    num_frames: NotRequired[list[int]]
    """B counts: N, the frames of the whole video."""
    frame_step: NotRequired[list[int]]
    """B steps: from one frame of a window of this video to the next, where ``frame_rate`` chooses it."""
    visual_features: NotRequired[Tensor]
    """float (B, T, Dv): in place of ``video`` where features were computed before."""
    audio_features: NotRequired[Tensor]
    """float (B, T, Da): in place of ``audio`` where features were computed before."""
    on_host: NotRequired[HostPart]
    """A part of the batch as it was before it was copied to a device, see `on_host`."""


def on_host(batch: Batch) -> HostPart:
    """The part of a batch that the host looks at: to ask the device would be to wait for all that it does."""
    return batch.get("on_host") or HostPart(
        video_mask=batch["video_mask"], time=batch["time"], frame=batch["frame"]
    )
