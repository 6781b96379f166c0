"""What every network on single face crops shares: it runs on present frames alone."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from abaw.encoders.base import VisualEncoder
from abaw.encoders.compiled import FixedBatch
from abaw.ranges import MOST_FEATURES, MOST_IN_BATCH, check_count
from abaw.transfer import ahead


class FrameEncoder(VisualEncoder):
    """A visual encoder that looks at one crop at a time; the class to subclass for a network of one's own.

    A subclass implements :meth:`encode_frames`. Frames without a face never reach it.

    Args:
        out_features: D, the size of a feature vector.
        micro_batch: how many frames go through the network at once.

    Example:
        >>> class Brightness(FrameEncoder):
        ...     def encode_frames(self, frames):
        ...         return frames.float().mean(dim=(2, 3))
        >>> video = torch.full((1, 2, 3, 4, 4), 7, dtype=torch.uint8)
        >>> Brightness(out_features=3, micro_batch=8)(video, torch.tensor([[True, False]]))
        tensor([[[7., 7., 7.],
                 [0., 0., 0.]]])
    """

    def __init__(self, out_features: int, micro_batch: int) -> None:
        super().__init__()
        check_count(1, MOST_FEATURES, out_features=out_features)
        check_count(1, MOST_IN_BATCH, micro_batch=micro_batch)
        self.out_features = out_features
        self.micro_batch = micro_batch
        self._compiled: FixedBatch | None = None

    @abstractmethod
    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encode crops, each on its own: no result may depend on the other crops of the call.

        Args:
            frames: uint8 (M, 3, H, W), RGB, with M from 1 to ``micro_batch``.

        Returns:
            Features (M, D).
        """

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile :meth:`encode_frames` with ``torch.compile``, for calls without gradients.

        The network then sees one shape alone: the last micro-batch of a call is filled up with black frames.
        """
        self._compiled = FixedBatch(self.encode_frames, self.micro_batch, *args, **options)

    def forward(self, video: Tensor, video_mask: Tensor) -> Tensor:
        """Encode the frames that show a face.

        Args:
            video: uint8 (B, T, 3, H, W), RGB crops.
            video_mask: bool (B, T), True where a face is there; on the host nothing waits for ``video``'s
                device.

        Returns:
            float32 features (B, T, D), zeros where ``video_mask`` is False.

        Raises:
            ValueError: a shape or a type is another.
        """
        if video.ndim != 5 or video.shape[2] != 3 or video.dtype != torch.uint8:
            raise ValueError(f"video must be uint8 (B, T, 3, H, W), not {video.dtype} {tuple(video.shape)}")
        if video_mask.shape != video.shape[:2] or video_mask.dtype != torch.bool:
            raise ValueError(
                f"video_mask must be bool {tuple(video.shape[:2])}, "
                f"not {video_mask.dtype} {tuple(video_mask.shape)}"
            )
        frames = video.flatten(0, 1)
        present = ahead(video_mask.flatten().nonzero().squeeze(1), video.device)
        features = torch.zeros(len(frames), self.out_features, device=video.device)
        if len(present):
            chunks = torch.split(present, self.micro_batch)
            encoded = [self._encode(frames[index]).float() for index in chunks]
            features = features.index_copy(0, present, torch.cat(encoded))
        elif torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters()):
            # Under DDP the other ranks wait for this one's gradients, so there must be some: zeros.
            features = features + 0 * self.encode_frames(frames[:1]).float()
        return features.view(*video_mask.shape, self.out_features)

    def _encode(self, frames: Tensor) -> Tensor:
        if self._compiled is None or torch.is_grad_enabled():
            return self.encode_frames(frames)
        return self._compiled(frames)
