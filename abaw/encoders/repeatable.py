"""Whether an encoder gives the same features for the same input, whatever else is in the batch."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

from abaw.encoders.base import Encoder
from abaw.encoders.frames import FrameEncoder
from abaw.errors import InputError

EXACT: Final = 1e-3
"""How far an encoder may be from itself, as a share of its largest feature: kernels add up in any order."""
NEAR: Final = 1e-2
"""The same in another batch, for which other kernels are chosen."""
IN_HALF: Final = 10
"""How many times that may be where products are rounded to half precision, or to TF32."""


def check_repeatable(encoder: Encoder, *inputs: Tensor) -> bool:
    """Refuse an encoder whose features in evaluation are drawn at random, or depend on the batch's others.

    It is run on one sample of its input three times: alone, alone again, and beside another sample, never
    compiled. If it is not one of this library, a copy is run, so that what it counts or remembers stays as it
    is; the generators do so too.

    Args:
        encoder: The encoder, in evaluation mode.
        *inputs: What it is given, the sound or the pictures first, the mask last.

    Returns:
        False if nothing is present, or tensors have no values, so that nothing could be told.

    Raises:
        InputError: If it breaks one of the two.
    """
    alone = _one_sample(encoder, inputs)
    if alone is None:
        return False
    beside = [
        torch.cat([value, _another(value) if place == 0 else value]) for place, value in enumerate(alone)
    ]
    run = _without_traces(encoder)
    with torch.no_grad(), _generators_kept(inputs[0].device):
        first, again = run(*alone), run(*alone)
        together = run(*beside)[:1]
    rounding = IN_HALF if _rounds(encoder, first.device.type) else 1
    if _differs(first, again, EXACT * rounding):
        raise InputError(
            f"{_name(encoder)}: the same input gives other features each time, in evaluation too: draw at "
            "random while self.training alone, and set to 0 what hides or drops"
        )
    if _differs(first, together, NEAR * rounding):
        raise InputError(
            f"{_name(encoder)}: in evaluation, the features of one sample change with the others of its "
            "batch: normalise each on its own (batch norm in training mode is the usual cause)"
        )
    return True


def _one_sample(encoder: Encoder, inputs: Sequence[Tensor]) -> list[Tensor] | None:
    """The first sample that has something; of an encoder of single frames, its first frame."""
    *_, mask = inputs
    if any(value.is_meta for value in inputs):
        return None
    places = mask.nonzero()
    if not len(places):
        return None
    sample, frame = places[0].tolist()
    one = [value[sample : sample + 1] for value in inputs]
    return [value[:, frame : frame + 1] for value in one] if isinstance(encoder, FrameEncoder) else one


def _another(content: Tensor) -> Tensor:
    """A sample that differs much."""
    if not content.is_floating_point():
        return 255 - content
    wave = torch.arange(content.shape[-1], device=content.device, dtype=content.dtype).mul(0.3).sin()
    return content.flip(-1) + 0.3 * wave


def _rounds(encoder: Encoder, device: str) -> bool:
    """Whether weights, autocast or PyTorch's own setting make products of fewer digits than float32 has."""
    return (
        torch.is_autocast_enabled(device)
        or (device != "cpu" and torch.get_float32_matmul_precision() != "highest")
        or any(p.is_floating_point() and p.dtype.itemsize < 4 for p in encoder.parameters())
    )


def _without_traces(encoder: Encoder) -> Any:
    """The forward of a copy, that shares the weights if it is of this library's, and is never compiled.

    Compiled, two samples where the run has one would be compiled anew, and every later batch filled up.
    """
    own = type(encoder).__module__.startswith("abaw.encoders.")
    compiled = getattr(encoder, "_compiled", None)
    try:
        copied = copy.copy(encoder) if own else copy.deepcopy(encoder, {id(compiled): None})
    except Exception:  # what it holds may not be copied, or be too large
        copied = copy.copy(encoder)
    vars(copied)["_compiled"] = None
    return copied.forward


@contextmanager
def _generators_kept(device: torch.device) -> Iterator[None]:
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type="cuda" if device.type == "cpu" else device.type):
        yield


def _differs(features: Tensor, others: Tensor, share: float) -> bool:
    features, others = features.float(), others.float()
    allowed = share * features.abs().amax().clamp_min(1e-6)
    return not bool(((features - others).abs() <= allowed).all()) and bool(features.isfinite().all())


def _name(encoder: Encoder) -> str:
    kind = f"{type(encoder).__module__}.{type(encoder).__qualname__}"
    model = encoder.provenance().get("model_name")
    return f"{kind} ({model})" if model else kind
