"""A small audio encoder, trained from scratch."""

import torch
from torch import Tensor, nn

from abaw.encoders.sound import SAMPLE_RATE, SoundEncoder
from abaw.ranges import check_count, check_weights


class LogMelEncoder(SoundEncoder):
    """Convolutions over time on a log-mel spectrogram: windows of 32 ms every 10 ms, features every 20 ms.

    A feature sees 0.18 s to each side of its centre and nothing beyond: norms work within one instant, never
    over the clip, so that what a frame gets does not depend on where a window starts or ends.

    Args:
        out_features: D, the size of a feature vector, and the convolutions' channels.
        n_mels: mel bands between 50 Hz and 8 kHz.

    Example:
        >>> encoder = LogMelEncoder(out_features=32)
        >>> time = torch.tensor([[0.5, 0.54, 0.58]])
        >>> encoder(torch.zeros(1, 16000), time, torch.ones(1, 3, dtype=torch.bool)).shape
        torch.Size([1, 3, 32])
    """

    def __init__(self, out_features: int = 128, n_mels: int = 64) -> None:
        # Here alone: the other encoders, and a model that only looks, need no torchaudio.
        from torchaudio.transforms import MelSpectrogram

        n_fft, hop = 512, 160
        super().__init__(out_features, span=n_fft, stride=2 * hop)
        check_count(1, n_fft // 2, n_mels=n_mels)
        check_weights(16 * out_features**2, out_features=out_features)
        self.mel = MelSpectrogram(
            SAMPLE_RATE, n_fft=n_fft, hop_length=hop, f_min=50.0, n_mels=n_mels, center=False
        )
        self.network = nn.Sequential(
            *_block(n_mels, out_features),
            *_block(out_features, out_features, stride=2),
            *_block(out_features, out_features),
            *_block(out_features, out_features, dilation=2),
            nn.Conv1d(out_features, out_features, kernel_size=1),
        )

    def encode_sound(self, audio: Tensor) -> Tensor:
        """Encode float32 (B, S) into (B, K, D)."""
        with torch.autocast(audio.device.type, enabled=False):  # half precision has no room for power spectra
            log_mel = (self.mel(audio.float()) + 1e-5).log()
        features: Tensor = self.network((log_mel + 4.5) / 4.5)  # speech at usual levels: mean 0, variance 1
        return features.transpose(1, 2)


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, D, K), each instant on its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


def _block(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    # An odd kernel with this padding keeps feature k centred on input stride * k.
    return [
        nn.Conv1d(inputs, outputs, kernel_size=5, stride=stride, dilation=dilation, padding=2 * dilation),
        _ChannelNorm(outputs),
        nn.GELU(),
    ]
