"""How a network of transformers wants its pictures: their size, and the scale of their values."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from abaw.errors import InputError


def prepared_size(processor: Mapping[str, Any]) -> int | None:
    """The height and width that a checkpoint's image processor gives to every picture.

    Args:
        processor: Entries of its ``preprocessor_config.json``.

    Returns:
        Pixels; ``None`` where it says nothing, or gives no single square size.
    """
    crops = processor.get("do_center_crop", "crop_size" in processor)
    resizes = processor.get("do_resize", True)
    size = processor.get("crop_size") if crops else None
    if size is None and resizes:
        size = processor.get("size")
    if isinstance(size, Mapping):
        size = [size[side] for side in ("height", "width", "shortest_edge") if size.get(side)]
    sides = {int(side) for side in (size if isinstance(size, list | tuple) else [size or 0])}
    return sides.pop() or None if len(sides) == 1 else None


def scaling(processor: Mapping[str, Any]) -> tuple[float, float | list[float], float | list[float]]:
    """How a checkpoint's image processor scales values from 0 to 255.

    Args:
        processor: Entries of its ``preprocessor_config.json``.

    Returns:
        ``(divisor, mean, std)``: values are divided by the first, less the second, divided by the third; the
        last two are one for each colour, or one for all.
    """
    divisor = 1 / processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1.0
    mean, std = (
        0.5 if (said := processor.get(f"image_{what}")) is None else said for what in ("mean", "std")
    )
    if not processor.get("do_normalize", True):
        mean, std = 0.0, 1.0
    if processor.get("rescale_offset"):  # to [-1, 1], before what else is done
        mean = [m + 1 for m in mean] if isinstance(mean, list) else mean + 1
    return divisor, mean, std


def settle_size(model: nn.Module, asked: int | None, prepared: int | None) -> int:
    """The height and width that a network is given pictures in.

    Args:
        model: The network.
        asked: What the user says; ``None`` for nothing.
        prepared: What its image processor would give it; ``None`` if that is not known.

    Raises:
        InputError: The network takes no pictures of the size that was asked for.
    """
    config: Any = model.config
    own = getattr(config, "image_size", None)
    sides = {*own} if isinstance(own, list | tuple) else {own}
    if asked is None and prepared is None and len(sides) > 1:
        raise InputError(
            f"this {config.model_type} network was made for pictures of {own}, and crops are square: "
            "say image_size"
        )
    own = sides.pop() if len(sides) == 1 else None
    patch = getattr(config, "patch_size", None)
    if asked is not None and (asked < 1 or (isinstance(patch, int) and asked % patch)):
        raise InputError(f"image_size must be a positive multiple of the patches' {patch or 1}, not {asked}")
    size = asked or prepared or own or 224
    if own is None or size == own:
        return int(size)
    problem = _refuses(model, size)
    if problem is None:
        return int(size)
    if asked is None:
        return int(own)
    raise InputError(
        f"this {config.model_type} network takes pictures of {own}×{own} alone, not of {asked}×{asked}: "
        f"leave image_size out ({problem})"
    )


def interpolating(model: nn.Module) -> dict[str, Any]:
    """The argument that makes a network fit its positions to any size of picture, if it has one."""
    known = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    return {"interpolate_pos_encoding": True} if known else {}


def _refuses(model: nn.Module, size: int) -> str | None:
    """Why a network takes no pictures of a size; ``None`` if it does."""
    picture = torch.zeros(1, 3, size, size, dtype=next(model.parameters()).dtype)
    try:
        with torch.no_grad():
            model.eval()(picture, **interpolating(model))
    except (ValueError, RuntimeError) as error:
        return " ".join(str(error).split())
    return None
