"""Sizes of transformers' networks, looked at before one is built."""

from collections.abc import Mapping
from typing import Any

from abaw.ranges import MOST_FEATURES, MOST_LAYERS, check_count, check_weights


def check_sizes(entries: Mapping[str, Any]) -> None:
    """Refuse a network with more layers or weights than can be meant.

    Args:
        entries: Of a configuration, or overrides of one; of two towers, such as CLIP's, each has its own.

    Raises:
        InputError: If a number is out of range, or memory can't hold the layers.
    """
    for part in entries.values():
        if isinstance(part, Mapping):
            check_sizes(part)
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    # Some networks have lists of them, one for each stage, or none.
    sizes = {name: entries[name] for name in names if isinstance(entries.get(name), (int, float))}
    depth, width = sizes.get("num_hidden_layers", 0), sizes.get("hidden_size", 0)
    inner = sizes.get("intermediate_size", 4 * width)
    check_count(0, MOST_LAYERS, num_hidden_layers=depth)
    check_count(0, MOST_FEATURES, hidden_size=width, **{n: sizes[n] for n in names[2:] if n in sizes})
    check_weights(depth * width * (4 * width + 2 * inner), num_hidden_layers=depth, hidden_size=width)
