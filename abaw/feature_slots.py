"""What follows from the files where features take the place of encoders."""

from collections.abc import Mapping
from typing import Any, Final

from abaw.checkpoint_file import data_state
from abaw.data.feature_datamodule import FeatureDataModule, feature_sizes
from abaw.data.feature_index import read_index
from abaw.data.features import read_header
from abaw.encoders import PrecomputedEncoder
from abaw.errors import InputError
from abaw.fingerprint import fingerprint
from abaw.module import ExpressionModule
from abaw.recorded import class_of

# Settings of a corpus that its features depend on: of sound, those of the chunks that it is heard in too.
_SETTINGS: Final = ("window", "frame_step", "frame_rate", "image_size", "audio_context")
# Arguments of an encoder that they don't depend on, once it has its weights.
_FREE: Final = ("freeze", "pretrained", "micro_batch")


def size_precomputed_encoders(model: Any, data: Any) -> None:
    """Fill in ``out_features`` of each PrecomputedEncoder of a parsed configuration.

    Args:
        model: The arguments of the model.
        data: The data's ``class_path`` and ``init_args``.

    Raises:
        InputError: If the data is not features, has none of a modality, or has them of another size.
    """
    for modality in ("visual", "audio"):
        name = f"{modality}_encoder"
        encoder = model[name]
        if encoder is None or not issubclass(class_of(encoder), PrecomputedEncoder):
            continue
        if not issubclass(reader := class_of(data), FeatureDataModule):
            raise InputError(
                f"model.{name} is a PrecomputedEncoder, but {reader.__name__} serves no features: say "
                "--data FeatureDataModule --data.root OUT, where OUT is what 'abaw extract' wrote"
            )
        root, said = data.init_args.root, encoder.init_args.out_features
        size = feature_sizes(root).get(modality)
        if size is None:
            raise InputError(f"{root}: holds no {modality} features; set model.{name} to null")
        if said not in (None, size):
            raise InputError(
                f"model.{name}.init_args.out_features is {said}, but the features in {root} have {size}: "
                "leave it out"
            )
        encoder.init_args.out_features = size


def check_features_of(checkpoint: Mapping[str, Any], model: ExpressionModule, data: Any) -> None:
    """Refuse features that were not made by the encoders that a checkpoint was trained with.

    Args:
        checkpoint: What is loaded. If it was itself trained on features, its data module tells.
        model: The model that it is loaded into.
        data: The data module.

    Raises:
        InputError: If a PrecomputedEncoder stands for an encoder with other weights, or the features were
            made with other settings.
    """
    if not isinstance(data, FeatureDataModule):
        return
    header = read_header(read_index(data.root)[0])
    if "encoders" in (made := data_state(checkpoint)):
        data.check(made["encoders"], made["settings"])
    else:
        seen = checkpoint.get("datamodule_hyper_parameters", {})
        asked = checkpoint["hyper_parameters"]
        encoders = {
            m: _as_asked(made_by, asked.get(f"{m}_encoder")) for m, made_by in header.encoders.items()
        }
        data.check(encoders, {key: seen[key] for key in _SETTINGS if key in seen})
    slots = {"visual": model.visual_encoder, "audio": model.audio_encoder}
    for modality, encoder in slots.items():
        prefix = f"{modality}_encoder."
        trained = any(name.startswith(prefix) for name in checkpoint["state_dict"])
        if not (trained and isinstance(encoder, PrecomputedEncoder)):
            continue
        made_by = header.encoders.get(modality, {}).get("weights")
        if fingerprint(checkpoint["state_dict"], prefix) != made_by:
            raise InputError(
                f"{data.root}: its {modality} features were not made by the encoder of the checkpoint; "
                "extract them with it, or take a checkpoint trained on them"
            )


def _as_asked(made_by: dict[str, Any], asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """What made some features, with the class and arguments of another encoder, as far as both are told."""
    if asked is None or made_by.get("init_args") is None:
        return made_by
    told = {k: v for k, v in asked["init_args"].items() if k in made_by["init_args"] and k not in _FREE}
    return {**made_by, "class_path": asked["class_path"], "init_args": {**made_by["init_args"], **told}}
