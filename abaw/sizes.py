"""Which sizes the parts of a model have, and whether they fit together."""

from collections.abc import Sequence

from abaw.encoders import AudioEncoder, VisualEncoder
from abaw.fusion import FusionHead
from abaw.losses import FrameLoss


def feature_size(encoder: VisualEncoder | AudioEncoder | None) -> int:
    """Size of the features that a fusion head is given from ``encoder``; 1 where there is none."""
    return 1 if encoder is None else encoder.out_features


def check_sizes(
    fusion: FusionHead,
    loss: FrameLoss,
    class_names: Sequence[str],
    visual_encoder: VisualEncoder | None,
    audio_encoder: AudioEncoder | None,
) -> None:
    """Refuse a head or a loss that was made for other sizes than the encoders and the classes give.

    Raises:
        ValueError: If one was.
    """
    if loss.num_classes not in (None, len(class_names)):
        raise ValueError(
            f"{type(loss).__name__} was made for {loss.num_classes} classes, but there are {len(class_names)}"
        )
    given = {
        "visual_dim": feature_size(visual_encoder),
        "audio_dim": feature_size(audio_encoder),
        "num_classes": len(class_names),
    }
    sources = {
        "visual_dim": _name(visual_encoder, "no visual_encoder (1 feature, always absent)"),
        "audio_dim": _name(audio_encoder, "no audio_encoder (1 feature, always absent)"),
        "num_classes": f"the {len(class_names)} class_names",
    }
    for argument, expected in given.items():
        made_with = fusion.init_args.get(argument)
        if made_with is not None and made_with != expected:
            raise ValueError(
                f"{type(fusion).__name__} was made with {argument}={made_with}, but "
                f"{sources[argument]} asks for {argument}={expected}"
            )


def _name(encoder: VisualEncoder | AudioEncoder | None, missing: str) -> str:
    return missing if encoder is None else f"{type(encoder).__name__}(out_features={encoder.out_features})"
