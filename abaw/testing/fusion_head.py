"""What a fusion head breaks of its contract, in words."""

import copy
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch

from abaw.fusion import FusionHead
from abaw.testing.promises import FIRST_PROMISES, PROMISES, Promise
from abaw.testing.subject import Subject, first_line


def check_fusion_head(
    head: FusionHead,
    visual_dim: int | None = None,
    audio_dim: int | None = None,
    num_classes: int | None = None,
) -> None:
    """Check that a fusion head keeps what :class:`~abaw.fusion.FusionHead` promises.

    - **shape**: logits (B, T, C), for single samples and frames too, with and without ``time`` and
      ``frame_mask``.
    - **repeatability**: in evaluation, the same input gives the same logits, and is left as it was.
    - **finiteness**: no NaN or infinity in logits and gradients, whatever the masks; in training and in
      evaluation.
    - **padding**: logits of real frames don't change with frames appended where ``frame_mask`` is False,
      whatever the masks and the times say there, and the features; these may even be NaN where the other
      masks are False too. ``frame_mask=None`` means that there is no padding.
    - **batch**: nor with the other samples of the batch, their padding and their clocks, in evaluation.
    - **peeking**: nothing changes with the features where ``video_mask`` or ``audio_mask`` is False; NaN and
      infinity there reach neither logits nor gradients.
    - **device**: the head computes where its parameters and inputs are. No accelerator is needed to see that:
      tensors without values stand in for a GPU's.
    - **dtype**: bf16 autocast gives finite logits; a head in float64, bfloat16 or float16 takes features of
      that type (``time`` stays float32), gives logits no narrower, and finite ones with finite gradients.
      Operations that PyTorch lacks in half precision are passed over.
    - **export**: :func:`torch.export.export` takes the head, and what it exports gives the head's logits
      under other masks than those it was traced with.

    The head itself and the generators are left as they were: a copy is checked. Layers of it that start at
    zero, or near it, are given small random weights, since they would hide what is behind them.

    Args:
        head: Any head, on any device; it is checked in float32 and in the types above.
        visual_dim: Dv; needed where the head's constructor has no argument of that name.
        audio_dim: Da; likewise.
        num_classes: C; likewise, but not needed.

    Raises:
        AssertionError: If the head breaks a promise. Its message says in words all that it breaks; but where
            shape or repeatability fail, the rest can't be told.
        ValueError: If the size of the features is not known.

    >>> from abaw.fusion import LateFusion
    >>> check_fusion_head(LateFusion(visual_dim=6, audio_dim=5, num_classes=4))
    """
    __tracebackhide__ = True  # pytest then shows the message, not this function
    gpus = [p.device for p in head.parameters() if p.is_cuda][:1]
    with torch.random.fork_rng(devices=gpus), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, on tensors without values
        torch.manual_seed(0)
        subject = Subject(
            copy.deepcopy(head).float(),
            _size(head, "visual_dim", visual_dim),
            _size(head, "audio_dim", audio_dim),
            num_classes or _made_with(head, "num_classes"),
        )
        violations = _broken(FIRST_PROMISES, subject)
        if not violations:
            subject.wake()
            violations = _broken(PROMISES, subject)
    if violations:
        listed = "".join(f"\n- {violation}" for violation in violations)
        raise AssertionError(f"{type(head).__name__} breaks the contract of fusion heads:{listed}")


def _broken(promises: Mapping[str, Promise], subject: Subject) -> list[str]:
    found = []
    for name, promise in promises.items():
        # A copy for each: a head may keep what it computed, and that can neither be copied nor moved.
        fresh = replace(subject, head=copy.deepcopy(subject.head))
        try:
            found += [f"{name}: {violation}" for violation in promise(fresh)]
        except Exception as error:
            found.append(f"{name}: it raises {first_line(error)}")
    return found


def _made_with(head: FusionHead, name: str) -> int | None:
    parameter = inspect.signature(type(head)).parameters.get(name)
    default = None if parameter is None or parameter.default is parameter.empty else parameter.default
    size: int | None = head.init_args.get(name, default)
    return size


def _size(head: FusionHead, name: str, given: int | None) -> int:
    size = given or _made_with(head, name)
    if size is None:
        raise ValueError(
            f"{type(head).__name__} was not made with {name}: call check_fusion_head(head, {name}=…)"
        )
    return size
