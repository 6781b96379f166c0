"""What every network on raw sound shares: its features are read off at the frames' times."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from abaw.encoders.base import AudioEncoder
from abaw.encoders.compiled import FixedBatch
from abaw.ranges import MOST_FEATURES, MOST_SAMPLES, check_count

SAMPLE_RATE = 16_000
"""Samples a second of all sound in this library."""


class SoundEncoder(AudioEncoder):
    """An audio encoder with evenly spaced features; the class to subclass for a network of one's own.

    A subclass implements :meth:`encode_sound`, whose feature k is centred at
    ``(stride * k + span / 2) / 16000`` seconds. Between two centres features are interpolated linearly,
    before the first and after the last they are held: time is the only ruler, lengths are never compared.

    Args:
        out_features: D, the size of a feature vector.
        span: samples that feature 0 is centred on; sound must have at least as many.
        stride: samples from one feature to the next.

    Example:
        >>> class Loudness(SoundEncoder):
        ...     def encode_sound(self, audio):
        ...         return audio.unfold(1, 1600, 1600).abs().mean(dim=2, keepdim=True)
        >>> encoder = Loudness(out_features=1, span=1600, stride=1600)
        >>> audio = torch.cat([torch.zeros(1, 1600), torch.ones(1, 1600)], dim=1)
        >>> time = torch.tensor([[0.05, 0.1, 0.15]])  # a centre, half-way, the next centre
        >>> encoder(audio, time, torch.tensor([[True, True, False]])).flatten()
        tensor([0.0000, 0.5000, 0.0000])
    """

    def __init__(self, out_features: int, span: int, stride: int) -> None:
        super().__init__()
        check_count(1, MOST_FEATURES, out_features=out_features)
        check_count(1, MOST_SAMPLES, span=span, stride=stride)
        self.out_features = out_features
        self.span = span
        self.stride = stride
        self._compiled: FixedBatch | None = None

    @abstractmethod
    def encode_sound(self, audio: Tensor) -> Tensor:
        """Encode sound at the encoder's own rate, each sample of the batch on its own.

        Args:
            audio: float32 (B, S), mono, 16 kHz.

        Returns:
            Features (B, K, D), feature k centred at ``(stride * k + span / 2) / 16000`` seconds.
        """

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile :meth:`encode_sound` with ``torch.compile``, for calls without gradients.

        Batches are filled up with silence to the largest one yet, so that few shapes are compiled.
        """
        self._compiled = FixedBatch(self.encode_sound, 0, *args, **options)

    def forward(self, audio: Tensor, time: Tensor, audio_mask: Tensor) -> Tensor:
        """Encode sound and read the features off at the frames' times.

        Args:
            audio: float32 (B, S), mono, 16 kHz.
            time: float32 (B, T), seconds from the first audio sample to each frame.
            audio_mask: bool (B, T), True where the track covers the frame.

        Returns:
            float32 features (B, T, D), zeros where ``audio_mask`` is False.

        Raises:
            ValueError: a shape or a type is another, or the sound is shorter than one feature's span.
        """
        if audio.ndim != 2 or not audio.is_floating_point():
            raise ValueError(f"audio must be floating point (B, S), not {audio.dtype} {tuple(audio.shape)}")
        if audio.shape[1] < self.span:
            raise ValueError(f"audio has {audio.shape[1]} samples, one feature takes {self.span}")
        if time.ndim != 2 or len(time) != len(audio):
            raise ValueError(f"time must be ({len(audio)}, T), not {tuple(time.shape)}")
        if audio_mask.shape != time.shape or audio_mask.dtype != torch.bool:
            raise ValueError(
                f"audio_mask must be bool {tuple(time.shape)}, "
                f"not {audio_mask.dtype} {tuple(audio_mask.shape)}"
            )
        features = self._encode(audio).float()
        centre = (time - self.span / 2 / SAMPLE_RATE) * (SAMPLE_RATE / self.stride)
        features = _read_at(features, centre.masked_fill(~audio_mask, 0))
        return features.masked_fill(~audio_mask[..., None], 0)

    def _encode(self, audio: Tensor) -> Tensor:
        if self._compiled is None or torch.is_grad_enabled():
            return self.encode_sound(audio)
        return self._compiled(audio)


def _read_at(features: Tensor, position: Tensor) -> Tensor:
    """Interpolate ``features`` (B, K, D) linearly at fractional indices ``position`` (B, T): (B, T, D)."""
    last = features.shape[1] - 1
    position = position.clamp(0, last)
    low = position.floor().long()
    high = (low + 1).clamp(max=last)
    below, above = (
        features.gather(1, index[..., None].expand(-1, -1, features.shape[2])) for index in (low, high)
    )
    return torch.lerp(below, above, (position - low)[..., None])
