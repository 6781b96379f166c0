"""What follows from the files where features take the place of encoders."""

from typing import Any

from abaw.data.feature_datamodule import feature_sizes
from abaw.errors import InputError


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
        if encoder is None or _class_name(encoder) != "PrecomputedEncoder":
            continue
        if _class_name(data) != "FeatureDataModule":
            raise InputError(
                f"model.{name} is a PrecomputedEncoder, but {_class_name(data)} serves no features: say "
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


def _class_name(spec: Any) -> str:
    return str(spec.class_path).rpartition(".")[2]
