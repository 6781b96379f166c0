"""Nested dictionaries."""

from typing import Any


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of a nested dictionary by their dotted names.

    >>> flatten({"a": {"b": 1, "c": [2]}, "d": None})
    {'a.b': 1, 'a.c': [2], 'd': None}
    """
    if not isinstance(tree, dict):
        return {prefix.removesuffix("."): tree}
    return {k: v for name, branch in tree.items() for k, v in flatten(branch, f"{prefix}{name}.").items()}
