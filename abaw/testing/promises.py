"""The promises of a fusion head, one generator each: it yields what is broken, in words."""

import copy
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.func import functional_call

from abaw.testing.subject import CASES, FRAMES, UNPADDED, WINDOWS, Subject, difference, first_line, is_finite


def _shape(subject: Subject) -> Iterator[str]:
    full, padded = CASES["everything present"], CASES["padding after the window"]
    for samples, frames, masks in [(3, FRAMES, full), (1, FRAMES, full), (2, 1, full), (2, FRAMES, padded)]:
        inputs = subject.inputs([(masks[0][:frames], masks[1][:frames], masks[2][:frames])] * samples)
        for left_out in ([], ["time"], ["frame_mask"], ["time", "frame_mask"]):
            given = {name: value for name, value in inputs.items() if name not in left_out}
            try:
                shape = tuple(subject.evaluate(given).shape)
            except Exception as error:
                yield f"{_words(samples, frames, left_out)} it raises {first_line(error)}"
                return
            expected = (samples, frames, subject.num_classes or shape[-1])
            if shape != expected:
                yield f"{_words(samples, frames, left_out)} logits are {shape}, not (B, T, C) = {expected}"
                return


def _words(samples: int, frames: int, left_out: list[str]) -> str:
    without = f" and without {' and '.join(left_out)}" if left_out else ""
    return f"with B = {samples} windows of T = {frames} frames{without},"


def _repeatability(subject: Subject) -> Iterator[str]:
    inputs = subject.inputs(UNPADDED)
    before = {name: value.clone() for name, value in inputs.items()}
    if change := difference(subject.evaluate(inputs), subject.evaluate(inputs)):
        yield f"logits {change} from one evaluation to the next: draw at random while self.training alone"
    if changed := [name for name, value in before.items() if not torch.equal(value, inputs[name])]:
        yield f"{', '.join(changed)}: the caller's tensor is changed in place"


def _finiteness(subject: Subject) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for case, masks in CASES.items():
        inputs = subject.inputs([masks] * 2)
        timeless = {name: value for name, value in inputs.items() if name != "time"}
        try:
            if not is_finite(subject.evaluate(inputs)):
                found.setdefault("logits are NaN or infinite", []).append(case)
            elif not is_finite(subject.evaluate(timeless)):
                found.setdefault("logits without time are NaN or infinite", []).append(case)
            elif names := subject.broken_gradients(inputs):
                found.setdefault(f"gradients of {names} are NaN or infinite", []).append(case)
        except Exception as error:
            found.setdefault(f"it raises {first_line(error)}", []).append(case)
    yield from (f"{what} given {'; '.join(cases)}" for what, cases in found.items())


def _padding(subject: Subject) -> Iterator[str]:
    inputs, extra = subject.inputs(UNPADDED), 4
    alone = subject.evaluate(inputs)
    if change := difference(alone, subject.evaluate({k: v for k, v in inputs.items() if k != "frame_mask"})):
        yield f"logits {change} when frame_mask is left out, which means that no frame is padding"
    for masks, scale, said in (
        (False, 10.0, ""),
        (True, 10.0, " and whose other masks are True"),
        (False, torch.nan, " and whose features and times are NaN"),
    ):
        padded = {
            name: torch.cat([value, _filler(name, value[:, :extra], masks, scale)], dim=1)
            for name, value in inputs.items()
        }
        if change := difference(alone, subject.evaluate(padded)[:, :FRAMES]):
            yield (
                f"logits of real frames {change} when frames are appended whose frame_mask is False{said}: "
                "leave those out of all that frames share"
            )
            return


def _filler(name: str, like: Tensor, masks: bool, scale: float) -> Tensor:
    if like.dtype == torch.bool:
        return torch.full_like(like, masks and name != "frame_mask")
    return scale * torch.randn_like(like)


def _batch(subject: Subject) -> Iterator[str]:
    inputs = subject.inputs(WINDOWS)
    alone = [subject.evaluate({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(len(WINDOWS))]
    real = inputs["frame_mask"]
    if change := difference(torch.cat(alone)[real], subject.evaluate(inputs)[real]):
        yield f"a sample's logits {change} with the other samples of its batch"


def _peeking(subject: Subject) -> Iterator[str]:
    inputs = subject.inputs(UNPADDED)
    logits, sound = subject.evaluate(inputs), not subject.broken_gradients(inputs)
    for name, mask in (("visual", "video_mask"), ("audio", "audio_mask")):
        remedy = f"start with torch.where({mask}[..., None], {name}, 0)"
        for value, said in ((10.0, ""), (torch.nan, " being NaN"), (torch.inf, " being infinite")):
            noise = torch.randn_like(inputs[name]) * value
            filled = inputs | {name: torch.where(inputs[mask][..., None], inputs[name], noise)}
            where = f"with {name} features{said} where {mask} is False"
            if change := difference(logits, subject.evaluate(filled)):
                yield f"logits {change} {where}: {remedy}"
                break
            if change := difference(subject.train(inputs), subject.train(filled)):
                yield f"logits in training {change} {where}: {remedy}"
                break
            if sound and (names := subject.broken_gradients(filled)):
                yield f"gradients of {names} are NaN or infinite {where}: {remedy}"
                break


def _device(subject: Subject) -> Iterator[str]:
    state = dict(subject.head.named_parameters()) | dict(subject.head.named_buffers())
    here = (state, subject.inputs(UNPADDED))
    subject.head.eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        on_gpu, inputs = ({k: torch.empty_like(v, device="cuda") for k, v in given.items()} for given in here)
        try:
            device = functional_call(subject.head, on_gpu, kwargs=inputs).device
        except Exception as error:
            # Of the many ways to fail without values and without a GPU, one is the head's fault.
            if re.search("two (different )?devices|same device", str(error)):
                yield f"a tensor made by forward, or kept as no buffer, is on the CPU: {first_line(error)}"
            return
    if device.type != "cuda":
        yield f"logits are on {device} where parameters and features are on a GPU"


DTYPES = {
    "under bf16 autocast": (torch.float32, torch.bfloat16),
    "in float64": (torch.float64, torch.float64),
    "in bfloat16": (torch.bfloat16, torch.bfloat16),
    "in float16": (torch.float16, torch.float16),
}
"""The type of features and parameters, and the narrowest that logits may have."""


def _dtype(subject: Subject) -> Iterator[str]:
    inputs = subject.inputs(WINDOWS)
    casts = [copy.deepcopy(subject.head).to(dtype) for dtype, _ in DTYPES.values()]
    sound = is_finite(subject.evaluate(inputs)) and not subject.broken_gradients(inputs)
    for head, (said, (dtype, narrowest)) in zip(casts, DTYPES.items(), strict=True):
        cast = replace(subject, head=head)
        given = inputs | {name: inputs[name].to(dtype) for name in ("visual", "audio")}
        try:
            with torch.autocast(subject.device.type, torch.bfloat16, enabled=dtype != narrowest):
                logits, names = cast.evaluate(given), cast.broken_gradients(given)
        except Exception as error:
            if "not implemented for" not in str(error):
                yield f"{said}, it raises {first_line(error)}"
            continue
        if torch.promote_types(logits.dtype, narrowest) != logits.dtype:
            yield f"{said}, logits are of the narrower {logits.dtype}"
        elif sound and not is_finite(logits):
            yield f"{said}, logits are NaN or infinite"
        elif sound and names:
            yield f"{said}, gradients of {names} are NaN or infinite"


def _export(subject: Subject) -> Iterator[str]:
    inputs = subject.inputs(UNPADDED)
    silenced = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # it logs whole graphs where it fails
    try:
        exported = torch.export.export(subject.head.eval(), (), inputs).module()
    finally:
        logging.disable(silenced)
    other = subject.inputs([(audio, video, frames) for video, audio, frames in UNPADDED])
    with torch.no_grad():
        if change := difference(subject.evaluate(other), exported(**other)):
            yield f"logits {change} in what torch.export makes of it, under masks other than those it traced"


Promise = Callable[[Subject], Iterator[str]]
FIRST_PROMISES: dict[str, Promise] = {"shape": _shape, "repeatability": _repeatability}
"""Where these are broken, the others can't be told."""
PROMISES: dict[str, Promise] = {
    "finiteness": _finiteness,
    "padding": _padding,
    "batch": _batch,
    "peeking": _peeking,
    "device": _device,
    "dtype": _dtype,
    "export": _export,
}
