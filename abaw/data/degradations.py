"""What can happen to face and sound, done to batches on purpose, to see how well a model does without.

Every function takes a `Batch` and returns another; the one given is never modified, and what is not changed
is shared by both. They work on pictures and sound as the loaders give them, and on features that were
computed before (``visual_features``, ``audio_features``, a whole video as one long sample, say): what a batch
does not hold is left out.

**What is lost is settled by (seed, video, modality, frame number) alone**: the same frames on every device,
whatever batch, window or chunk they come in. Both modalities lose frames of their own.

**What is exact, and what is not.** On pictures, and on visual features of an encoder that sees one picture at
a time, every function is exact, but that blanked features are zeros, not what the encoder makes of a black
picture. Sound is not made of frames: a sample belongs to the frame nearest in time, the context before a
window's first frame and after its last to these two. On audio features the loss is that of the features: an
encoder that hears more than a frame at once has let its neighbours hear what was lost, and an unannounced
silence is not the zeros that stand for it here.
"""

import hashlib
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.data.audio import SAMPLE_RATE
from abaw.data.batch import Batch
from abaw.ranges import MOST_FRAMES, check_count, check_number

Modality = Literal["video", "audio"]

_FRAMEWISE: Final = {"video": ("video", "visual_features"), "audio": ("audio_features",)}
# Seconds by which a clock in float32 may be off, hours into a video.
_CLOCK_ERROR: Final = 1e-3


def drop_modality(batch: Batch, modality: Modality) -> Batch:
    """Take a modality away and say so: the mask is False everywhere, what it masked is zero.

    Args:
        batch: The batch.
        modality: What is dropped.
    """
    return _lose(batch, modality, torch.ones_like(batch["frame"], dtype=torch.bool))


def lose_frames(
    batch: Batch, modality: Modality, rate: float, span: int | None = None, seed: int = 0
) -> Batch:
    """Lose frames and say so: the mask is False there, what it masked is zero.

    Args:
        batch: The batch.
        modality: What is lost.
        rate: The probability of each frame of the video to be lost, 0…1, whether it had a face or sound or
            not. Without ``span``, what is lost at one rate is lost at every higher one too.
        span: Lose stretches of this many consecutive frames (as far as they lie within the video; two may
            touch), at distances that vary around ``span / rate``; None for every frame on its own.
        seed: Of the draw.

    Raises:
        ValueError: The rate is no probability, or the span below 1.

    Example:
        >>> face = torch.ones(1, 10, dtype=torch.bool)
        >>> batch = {"video_mask": face, "frame": torch.arange(10)[None], "video_id": ["135-24-1920x1080"]}
        >>> lose_frames(batch, "video", rate=0.5, span=3)["video_mask"].int().tolist()
        [[1, 0, 0, 0, 1, 1, 0, 0, 0, 1]]
    """
    return _lose(batch, modality, _draw_lost(batch, modality, rate, span, seed))


def blank_frames(
    batch: Batch, modality: Modality, rate: float, span: int | None = None, seed: int = 0
) -> Batch:
    """Turn frames black, or silent, without telling: the mask goes on saying that something is there.

    Args:
        batch: The batch.
        modality: What is blanked.
        rate: As in `lose_frames`; the same frames are hit.
        span: As in `lose_frames`.
        seed: As in `lose_frames`.

    Raises:
        ValueError: As `lose_frames`.
    """
    return _blank(batch, modality, _draw_lost(batch, modality, rate, span, seed))


def freeze_frames(
    batch: Batch, modality: Modality, rate: float, span: int | None = None, seed: int = 0
) -> Batch:
    """Let frames repeat the last one before them, as a stalled stream does, without telling the mask.

    A loss from a sample's beginning repeats the first frame that it has. Frozen sound plays the samples
    around the last frame over and over. Where nothing is present nothing changes.

    Args:
        batch: The batch.
        modality: What is frozen.
        rate: As in `lose_frames`; the same frames are hit.
        span: As in `lose_frames`.
        seed: As in `lose_frames`.

    Raises:
        ValueError: As `lose_frames`.
    """
    changed: dict[str, Any] = dict(batch)
    present = changed[f"{modality}_mask"].cpu()
    lost = _draw_lost(batch, modality, rate, span, seed) & present
    place = torch.arange(lost.shape[1]).expand(lost.shape)
    first = present.int().argmax(dim=1, keepdim=True)
    last = torch.where(present & ~lost, place, first).cummax(dim=1).values
    source = torch.where(lost, last, place).to(batch["frame"].device)

    for key in _framewise(changed, modality):
        changed[key] = _take_frames(changed[key], source)
    if modality == "audio" and "audio" in changed:
        sound, time = changed["audio"], changed["time"]
        back = ((time - time.gather(1, source)) * SAMPLE_RATE).round().long()
        samples = torch.arange(sound.shape[1], device=sound.device)
        played = samples - back.gather(1, _frame_of_sample(batch))
        changed["audio"] = sound.gather(1, played.clamp_min(0))
    return cast(Batch, changed)


def shift_sound(batch: Batch, milliseconds: float) -> Batch:
    """Let sound come late (or early, below 0) against the pictures, by the frames' timestamps.

    A frame at t is given the sound of ``t - milliseconds / 1000``. Features are interpolated linearly between
    the two frames around that moment where both have sound; else the nearer one's are taken, and the frame is
    absent if that one is. So they are exact where the shift meets a frame, and in between as good as a line
    from one to the next. Sound itself is shifted by whole samples.

    What lies outside of the batch is not known and counts as absent: for features, what is before a sample's
    first frame or after its last (of a whole video that is nothing); for sound, what is not in the clip.
    Within the clip, but outside of the window's frames, sound is there if the nearest of them has it.

    Args:
        batch: The batch.
        milliseconds: How much later sound comes.
    """
    changed: dict[str, Any] = dict(batch)
    device = batch["frame"].device
    delay = milliseconds / 1000
    heard_at = batch["time"].cpu().double() - delay
    around = _frames_around(batch, heard_at)
    left, right, share, within = (column.to(device) for column in around)
    from_left, from_right = (batch["audio_mask"].gather(1, side) for side in (left, right))
    nearest = torch.where(share < 0.5, from_left, from_right) & (batch["frame"] >= 0)
    if "audio_features" in changed:
        # Whatever stands where nothing is: a line to NaN is NaN, even at its other end.
        features = changed["audio_features"].masked_fill(~batch["audio_mask"][..., None], 0)
        weight = torch.where(from_left & from_right, share, (share >= 0.5).float()).to(features.dtype)
        before, after = (_take_frames(features, side) for side in (left, right))
        changed["audio_mask"] = present = nearest & within
        changed["audio_features"] = before.lerp(after, weight[..., None]).masked_fill(~present[..., None], 0)
    if "audio" in changed:
        sound = changed["audio"]
        source = torch.arange(sound.shape[1], device=device) - round(delay * SAMPLE_RATE)
        known = (source >= 0) & (source < sound.shape[1])
        changed["audio"] = sound[:, source.clamp(0, sound.shape[1] - 1)] * known
        in_clip = (heard_at >= -_CLOCK_ERROR) & (heard_at < sound.shape[1] / SAMPLE_RATE)
        changed["audio_mask"] = nearest & in_clip.to(device)
    return cast(Batch, changed)


def _lose(batch: Batch, modality: Modality, lost: Tensor) -> Batch:
    changed = cast(dict[str, Any], _blank(batch, modality, lost))
    mask = changed[f"{modality}_mask"]
    changed[f"{modality}_mask"] = mask & ~lost.to(mask.device)
    return cast(Batch, changed)


def _blank(batch: Batch, modality: Modality, lost: Tensor) -> Batch:
    changed: dict[str, Any] = dict(batch)
    lost = lost.to(batch["frame"].device)
    for key in _framewise(changed, modality):
        value = changed[key]
        changed[key] = value.masked_fill(lost.view(*lost.shape, *[1] * (value.ndim - 2)), 0)
    if modality == "audio" and "audio" in changed:
        changed["audio"] = changed["audio"].masked_fill(lost.gather(1, _frame_of_sample(batch)), 0)
    return cast(Batch, changed)


def _framewise(batch: dict[str, Any], modality: Modality) -> list[str]:
    return [key for key in _FRAMEWISE[modality] if key in batch]


def _take_frames(value: Tensor, frames: Tensor) -> Tensor:
    """Of value (B, T, …), the frames (B, T) of each sample."""
    return value[torch.arange(len(value), device=value.device)[:, None], frames]


def _draw_lost(batch: Batch, modality: Modality, rate: float, span: int | None, seed: int) -> Tensor:
    """Which frames are lost, bool (B, T), on the CPU; of padding it says nothing."""
    check_number(0, 1, rate=rate)
    check_count(1, MOST_FRAMES, span=span)
    rows = []
    for frames, video_id in zip(batch["frame"].cpu().numpy(), batch["video_id"], strict=True):
        draws = _draws(f"{seed}/{modality}/{video_id}", int(frames.max(initial=0)) + 3)
        lost = draws[frames] < rate if span is None else _in_span(frames, draws, rate, span)
        rows.append(torch.from_numpy(lost))
    return torch.stack(rows)


def _draws(name: str, count: int) -> NDArray[np.float64]:
    """The first of the uniform draws, in [0, 1), that belong to a name."""
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big")).random(count)


def _in_span(
    frames: NDArray[np.int64], draws: NDArray[np.float64], rate: float, span: int
) -> NDArray[np.bool_]:
    """Whether frames lie in a lost stretch.

    The video is cut into blocks of ``span / rate`` frames, with one stretch somewhere in each. The first
    block begins at random before frame 0: that gives every frame the same probability.
    """
    if rate == 0:
        return np.zeros(frames.shape, dtype=np.bool_)
    period = span / rate
    position = np.maximum(frames, 0) + draws[0] * period
    block = np.floor(position / period)
    begin = draws[1 + block.astype(np.int64)] * (period - span)
    offset = position - block * period
    return np.asarray((begin <= offset) & (offset < begin + span))


def _frame_of_sample(batch: Batch) -> Tensor:
    """The frame nearest to each sample of sound, int64 (B, S); never padding, where there is a frame."""
    time = batch["time"].masked_fill(batch["frame"] < 0, torch.inf)
    # Products alone: a GPU divides by a number as it multiplies by the inverse, and on a border that decides.
    borders = (time[:, 1:] + time[:, :-1]) * (SAMPLE_RATE / 2)
    audio = batch["audio"]
    samples = torch.arange(audio.shape[1], device=time.device, dtype=time.dtype)
    return torch.searchsorted(borders.contiguous(), samples.expand(audio.shape).contiguous(), right=True)


def _frames_around(batch: Batch, moment: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The frames before and after each moment.

    Args:
        batch: The batch.
        moment: float64 (B, T), seconds, on the CPU.

    Returns:
        On the CPU, each (B, T): ``(left, right, share, within)``, two frames, int64; how far the moment is on
        the way from one to the other, float32 in 0…1; and whether it is between the first and the last.
    """
    exists = batch["frame"].cpu() >= 0
    time = batch["time"].cpu().double().masked_fill(~exists, torch.inf)
    last = (exists.sum(dim=1, keepdim=True) - 1).clamp_min(0)
    left = (torch.searchsorted(time, moment, right=True) - 1).clamp_min(0).minimum(last)
    right = (left + 1).minimum(last)
    begin, end = time.gather(1, left), time.gather(1, right)
    share = ((moment - begin) / (end - begin)).nan_to_num(0.0).clamp(0, 1)
    within = (moment >= time[:, :1] - _CLOCK_ERROR) & (moment <= time.gather(1, last) + _CLOCK_ERROR)
    return left, right, share.float(), within
