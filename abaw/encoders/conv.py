"""A small visual encoder, trained from scratch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abaw.encoders.frames import FrameEncoder
from abaw.ranges import MOST_FEATURES, check_count, check_weights


class ConvVisualEncoder(FrameEncoder):
    """Five convolutions on 56×56 pixels: fast enough to train on a laptop's CPU.

    Each crop is brought to zero mean and unit variance per colour, so that light and skin colour count
    for little. Group norm (Wu and He 2018, arXiv 1803.08494) keeps every crop on its own. The last map's
    4×4 places are kept apart, for an expression is *where* things move.

    Args:
        out_features: D, the size of a feature vector.
        width: channels after the first convolution; a multiple of 8.
        micro_batch: how many frames go through the network at once.

    Example:
        >>> encoder = ConvVisualEncoder(out_features=32)
        >>> video = torch.zeros(2, 5, 3, 112, 112, dtype=torch.uint8)
        >>> encoder(video, torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 5, 32])
    """

    def __init__(self, out_features: int = 128, width: int = 16, micro_batch: int = 64) -> None:
        super().__init__(out_features, micro_batch)
        check_count(8, MOST_FEATURES, width=width)
        if width % 8:
            raise ValueError(f"width must be a multiple of 8, not {width}")
        check_weights(500 * width**2 + 128 * width * out_features, width=width, out_features=out_features)
        self.network = nn.Sequential(
            *_block(3, width, kernel_size=5, stride=2),  # 28×28
            *_block(width, 2 * width, stride=2),  # 14×14
            *_block(2 * width, 4 * width, stride=2),  # 7×7
            *_block(4 * width, 4 * width),
            *_block(4 * width, 8 * width, stride=2),  # 4×4
            nn.Flatten(),
            nn.Linear(8 * width * 4 * 4, out_features),
        )

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encode crops of any size, uint8 (M, 3, H, W), into (M, D)."""
        pixels = F.interpolate(frames.float(), size=(56, 56), mode="area")
        std, mean = torch.std_mean(pixels, dim=(2, 3), keepdim=True)
        pixels = (pixels - mean) / (std + 1)  # one grey level of 255: a flat crop stays flat
        features: Tensor = self.network(pixels.contiguous(memory_format=torch.channels_last))
        return features


def _block(inputs: int, outputs: int, kernel_size: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel_size, stride, padding=kernel_size // 2, bias=False),
        nn.GroupNorm(outputs // 8, outputs),
        nn.ReLU(inplace=True),
    ]
