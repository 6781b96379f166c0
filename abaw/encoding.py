"""What the encoders make of a batch, and how the module asks them."""

from typing import TypedDict

import torch
from torch import Tensor

from abaw.data.batch import Batch, on_host
from abaw.encoders import AudioEncoder, FrameEncoder, PrecomputedEncoder, VisualEncoder
from abaw.encoders.repeatable import check_repeatable
from abaw.errors import InputError
from abaw.fusion import ModalityDropout


class Features(TypedDict):
    """What the encoders make of a batch; a modality without an encoder is one zero a frame, never present."""

    visual: Tensor
    """float (B, T, Dv), zeros where ``video_mask`` is False."""
    audio: Tensor
    """float (B, T, Da), zeros where ``audio_mask`` is False."""
    video_mask: Tensor
    """bool (B, T)."""
    audio_mask: Tensor
    """bool (B, T)."""


def encode_video(batch: Batch, encoder: VisualEncoder | None, checked: set[str]) -> tuple[Tensor, Tensor]:
    """Features of the faces and the mask that belongs to them.

    Args:
        batch: Windows or chunks.
        encoder: The encoder, or None for a model that only listens.
        checked: The slots whose encoders were found to give the same twice; this one's is added.

    Raises:
        InputError: The batch has not what the encoder takes, or the encoder is not repeatable.
    """
    mask = batch["video_mask"]
    if encoder is None:
        return _nothing(mask)
    _check_input(batch, "video", "visual", encoder)
    if isinstance(encoder, PrecomputedEncoder):
        return encoder(batch["visual_features"], mask), mask
    # A FrameEncoder looks for the present frames; others may compute with the mask.
    given = on_host(batch).video_mask if isinstance(encoder, FrameEncoder) else mask
    features = encoder(batch["video"], given)
    _check_once("visual_encoder", encoder, checked, batch["video"], given)
    return features, mask


def encode_audio(batch: Batch, encoder: AudioEncoder | None, checked: set[str]) -> tuple[Tensor, Tensor]:
    """Features of the sound and the mask that belongs to them, as `encode_video`."""
    mask = batch["audio_mask"]
    if encoder is None:
        return _nothing(mask)
    _check_input(batch, "audio", "audio", encoder)
    if isinstance(encoder, PrecomputedEncoder):
        return encoder(batch["audio_features"], mask), mask
    features = encoder(batch["audio"], batch["time"], mask)
    _check_once("audio_encoder", encoder, checked, batch["audio"], batch["time"], mask)
    return features, mask


def drop(features: Features, modality_dropout: ModalityDropout) -> Features:
    """Features without the modalities that are dropped."""
    video_mask, audio_mask = modality_dropout(features["video_mask"], features["audio_mask"])
    # Zeroed too, so that a head that forgets its masks can't peek at what was dropped.
    return Features(
        visual=features["visual"].masked_fill(~video_mask[..., None], 0),
        audio=features["audio"].masked_fill(~audio_mask[..., None], 0),
        video_mask=video_mask,
        audio_mask=audio_mask,
    )


def _check_once(slot: str, encoder: VisualEncoder | AudioEncoder, checked: set[str], *inputs: Tensor) -> None:
    # Where it is first used in evaluation, and not where it is built: what it takes is known here.
    if not (encoder.training or slot in checked) and check_repeatable(encoder, *inputs):
        checked.add(slot)


def _check_input(batch: Batch, raw: str, kind: str, encoder: VisualEncoder | AudioEncoder) -> None:
    precomputed = isinstance(encoder, PrecomputedEncoder)
    needed = f"{kind}_features" if precomputed else raw
    if needed not in batch:
        advice = "read it with FeatureDataModule" if precomputed else "make it a PrecomputedEncoder, or null"
        raise InputError(
            f"{kind}_encoder is a {type(encoder).__name__}, but the data has no {needed}: {advice}"
        )


def _nothing(mask: Tensor) -> tuple[Tensor, Tensor]:
    absent = torch.zeros_like(mask)
    return absent[..., None].float(), absent
