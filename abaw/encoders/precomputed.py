"""The encoder that has nothing left to do."""

from typing import Any

from torch import Tensor, nn

from abaw.encoders.base import AudioEncoder, VisualEncoder
from abaw.ranges import MOST_FEATURES, check_count


class PrecomputedEncoder(VisualEncoder, AudioEncoder):
    """Takes the place of an encoder, of either kind, whose features were computed before.

    The model then looks for ``visual_features`` or ``audio_features`` in its batches, which
    `abaw.data.FeatureDataModule` serves. Weights of the encoder that it stands for are left out when a
    checkpoint is loaded: a head that was trained with it runs on its features.

    Args:
        out_features: D, the size of a feature vector; the command line takes it from the files.

    Raises:
        ValueError: ``out_features`` is not said, or not positive.

    Example:
        >>> import torch
        >>> encoder = PrecomputedEncoder(out_features=2)
        >>> encoder(torch.ones(1, 2, 2, dtype=torch.float16), torch.tensor([[True, False]]))
        tensor([[[1., 1.],
                 [0., 0.]]])
    """

    def __init__(self, out_features: int | None = None) -> None:
        super().__init__()
        if out_features is None:
            raise ValueError("out_features must be the features' size, not None")
        check_count(1, MOST_FEATURES, out_features=out_features)
        self.out_features = out_features
        self.register_load_state_dict_pre_hook(_leave_out)  # type: ignore[no-untyped-call]

    # An encoder of both kinds, and of neither: it is given features in place of pictures or sound.
    def forward(self, features: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Hand the features on.

        Args:
            features: float (B, T, D), of any precision.
            mask: bool (B, T), True where the face or the voice is there.

        Returns:
            float32 features (B, T, D), zeros where ``mask`` is False.

        Raises:
            ValueError: a shape or a type is another.
        """
        expected = (*mask.shape, self.out_features)
        if features.shape != expected or not features.is_floating_point():
            raise ValueError(
                f"features must be floating point {expected}, not {features.dtype} {tuple(features.shape)}"
            )
        return features.float().masked_fill(~mask[..., None], 0)


def _leave_out(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    for name in [name for name in state_dict if name.startswith(prefix)]:
        del state_dict[name]
