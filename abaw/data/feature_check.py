"""Whether a file of features holds what its header says."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, get_args

from torch import Tensor

from abaw.data.layout import Split
from abaw.labels import IGNORE_INDEX

if TYPE_CHECKING:
    from abaw.data.features import FeatureHeader

MODALITIES: Final = ("visual", "audio")
"""The tensors of features that a file can hold."""

# In safetensors' names.
_TYPES: Final = {
    "video_mask": ("BOOL",),
    "audio_mask": ("BOOL",),
    "target": ("I64",),
    "time": ("F64", "F32"),
    **dict.fromkeys(MODALITIES, ("F16", "BF16", "F32", "F64")),
}


def is_list_of(value: Any, kind: type) -> bool:
    """Whether a value is a list, and all that it holds of one kind."""
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def wrong_in_header(header: "FeatureHeader") -> str | None:
    """What of a header is not what `FeatureHeader` says, in words; None if all is."""
    right = {
        "video_id": isinstance(header.video_id, str),
        "raw_id": isinstance(header.raw_id, str),
        "split": header.split in get_args(Split),
        "class_names": is_list_of(header.class_names, str) and len(header.class_names) > 0,
        "num_frames": type(header.num_frames) is int and header.num_frames >= 0,
        "lead": type(header.lead) in (int, float) and math.isfinite(header.lead),
        "encoders": _is_named(header.encoders, dict) and header.encoders.keys() <= set(MODALITIES),
        "settings": isinstance(header.settings, dict),
        "sources": _is_named(header.sources, str),
    }
    return next((f"its header's {name} can't be right" for name, is_so in right.items() if not is_so), None)


def wrong_in_tensors(header: "FeatureHeader", found: Mapping[str, tuple[str, list[int]]]) -> str | None:
    """What of a file's tensors is not what the header says, in words; None if all is.

    Args:
        header: What the file says of itself.
        found: The type, by safetensors' name, and the shape of each tensor.
    """
    needed = {*_TYPES} - {*MODALITIES} | {*header.encoders}
    if missing := sorted(needed - found.keys()):
        return f"holds no {missing[0]}"
    for name in _TYPES.keys() & found.keys():
        dtype, shape = found[name]
        if dtype not in _TYPES[name]:
            return f"{name} is {dtype}, not {' or '.join(_TYPES[name])}"
        if len(shape) != (2 if name in MODALITIES else 1) or 0 in shape[1:]:
            return f"{name} has the shape {tuple(shape)}"
        if shape[0] != header.num_frames:
            return f"{name} is of {shape[0]} frames, its header of {header.num_frames}"
    return None


def wrong_in_values(header: "FeatureHeader", tensors: Mapping[str, Tensor]) -> str | None:
    """What of the labels and the times can't be, in words; None if all can. Features are not read.

    Args:
        header: What the file says of itself.
        tensors: The file's.
    """
    target = tensors["target"]
    if ((target < IGNORE_INDEX) | (target >= len(header.class_names))).any():
        return f"a label is none of its {len(header.class_names)} classes"
    if not tensors["time"].isfinite().all():
        return "a time is not finite"
    return None


def _is_named(value: Any, kind: type) -> bool:
    return isinstance(value, dict) and is_list_of([*value.values()], kind)
