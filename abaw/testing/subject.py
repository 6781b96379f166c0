"""A copy of the head that is checked, what it is fed with, and how its answers are judged."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]
"""Keyword arguments of a head's forward."""

FRAMES = 6
_ALL, _NONE = torch.ones(FRAMES, dtype=torch.bool), torch.zeros(FRAMES, dtype=torch.bool)
_ODD, _FIRST = torch.arange(FRAMES) % 2 == 1, torch.arange(FRAMES) < 2
CASES = {
    "everything present": (_ALL, _ALL, _ALL),
    "a window without a face": (_NONE, _ALL, _ALL),
    "a window without sound": (_ALL, _NONE, _ALL),
    "a window without face and sound": (_NONE, _NONE, _ALL),
    "gaps in face and sound": (_ODD, ~_FIRST, _ALL),
    "padding after the window": (_ODD & _FIRST, _FIRST, _FIRST),
    "nothing but padding": (_NONE, _NONE, _NONE),
    "padding that the masks call present": (_ALL, _ALL, _NONE),
    "a single frame": (_ALL[:1], _ALL[:1], _ALL[:1]),
    "a single frame without face and sound": (_NONE[:1], _NONE[:1], _ALL[:1]),
}
"""What can be missing: ``video_mask``, ``audio_mask`` and ``frame_mask``, (T,) each."""
UNPADDED = list(CASES.values())[:5]
WINDOWS = list(CASES.values())[:8]


@dataclass(frozen=True)
class Subject:
    """The copy that is checked, and what it is fed with."""

    head: nn.Module
    visual_dim: int
    audio_dim: int
    num_classes: int | None

    @property
    def device(self) -> torch.device:
        """Where the head is."""
        return next((p.device for p in self.head.parameters()), torch.device("cpu"))

    def wake(self) -> None:
        """Give small random weights to layers that start at zero or near it and hide what is behind them."""
        with torch.no_grad():
            for parameter in self.head.parameters():
                if (parameter.abs() < 1e-2).all():
                    parameter.normal_(std=0.1)

    def inputs(self, masks: list[tuple[Tensor, Tensor, Tensor]]) -> Inputs:
        """One random sample for each triple of masks, on a clock of its own."""
        video_mask, audio_mask, frame_mask = (torch.stack(mask) for mask in zip(*masks, strict=True))
        samples, frames = frame_mask.shape
        inputs = {
            "visual": torch.randn(samples, frames, self.visual_dim, dtype=torch.float32),
            "audio": torch.randn(samples, frames, self.audio_dim, dtype=torch.float32),
            "video_mask": video_mask,
            "audio_mask": audio_mask,
            "time": 0.5 + torch.arange(frames) / (25 - 3 * (torch.arange(samples) % 5))[:, None],
            "frame_mask": frame_mask,
        }
        return {name: value.to(self.device) for name, value in inputs.items()}

    def evaluate(self, inputs: Inputs) -> Tensor:
        """Logits in evaluation."""
        self.head.eval()
        with torch.no_grad():
            logits: Tensor = self.head(**inputs)
        return logits

    def train(self, inputs: Inputs) -> Tensor:
        """Logits in training, with the same draws for each call."""
        self.head.train()
        torch.manual_seed(1)
        with torch.no_grad():
            logits: Tensor = self.head(**inputs)
        return logits

    def broken_gradients(self, inputs: Inputs) -> str:
        """Names of the parameters and features whose gradients are not finite in training; or nothing."""
        self.head.train().zero_grad()
        leaves = {name: inputs[name].clone().requires_grad_() for name in ("visual", "audio")}
        self.head(**inputs | leaves).float().square().mean().backward()
        leaves |= dict(self.head.named_parameters())
        broken = [name for name, leaf in leaves.items() if leaf.grad is not None and not is_finite(leaf.grad)]
        return ", ".join(broken[:3]) + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    return bool(tensor.isfinite().all())


def difference(before: Tensor, after: Tensor) -> str:
    """How much logits change, in words; nothing within what rounding explains."""
    scale = before[before.isfinite()].abs().amax().item() if before.isfinite().any() else 0.0
    if torch.isclose(before, after, rtol=0, atol=max(1e-3 * scale, 1e-6), equal_nan=True).all():
        return ""
    largest = (after - before).abs().nan_to_num(nan=torch.inf).amax().item()
    return f"change by up to {largest:.2g}" if largest < torch.inf else "become NaN or infinite"


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).strip() or 'without a message').splitlines()[0]}"
