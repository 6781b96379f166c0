"""What is asked of a trained model's robustness: damage done to whole videos, and how its figures are read.

The damage is that of `abaw.data.degradations`, done to features that were computed once; see there for what
is exact. One seed loses the same frames in every run, and the same stretches whether the mask tells of them,
or features are zeroed or frozen and the mask is not told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor

from abaw.data.batch import Batch
from abaw.data.degradations import Modality, blank_frames, freeze_frames, lose_frames, shift_sound
from abaw.engine import VideoFeatures
from abaw.metrics import bootstrap_interval, figures_of

Loss = Literal["lost at random", "lost in stretches", "zeroed unannounced", "frozen unannounced"]

RATES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the frames that are lost."""
DELAYS: Final = (-500, -200, -100, 100, 200, 500)
"""Milliseconds by which sound is late; early, below 0."""
STRETCH: Final = 1.0
"""Seconds that a stretch of lost frames lasts; all losses but the random one come in stretches."""

_LOSE: Final = {
    "lost at random": lose_frames,
    "lost in stretches": lose_frames,
    "zeroed unannounced": blank_frames,
    "frozen unannounced": freeze_frames,
}


@dataclass(frozen=True)
class LostFrames:
    """A share of one stream's frames is lost.

    Attributes:
        modality: Which stream.
        loss: How; an unannounced one leaves the mask as it is.
        severity: The share, 0…1.
    """

    modality: Modality
    loss: Loss
    severity: float

    @property
    def needs(self) -> tuple[Modality, ...]:
        """What a model must take for this to make sense."""
        return (self.modality,)

    @property
    def curve(self) -> str:
        """What is done, whatever the severity."""
        return f"{self.modality} {self.loss}"

    @property
    def name(self) -> str:
        """What is done, and how much of it."""
        return f"{self.curve} {self.severity}"

    def apply(self, video: VideoFeatures, seed: int) -> VideoFeatures:
        """The video with the loss; ``seed`` and the video's name settle which frames are lost."""
        span = None if self.loss == "lost at random" else _frames_in(STRETCH, video)
        return _changed(video, _LOSE[self.loss](_as_batch(video), self.modality, self.severity, span, seed))


@dataclass(frozen=True)
class ShiftedSound:
    """Sound comes late, or early.

    Attributes:
        severity: How late, in milliseconds; early, below 0.
    """

    severity: int
    needs = get_args(Modality)
    curve = "audio shifted"

    @property
    def name(self) -> str:
        """What is done, and how much of it."""
        return f"{self.curve} {self.severity:+d} ms"

    def apply(self, video: VideoFeatures, seed: int) -> VideoFeatures:
        """The video with its sound shifted; nothing is drawn."""
        return _changed(video, shift_sound(_as_batch(video), self.severity))


DAMAGES: Final[tuple[LostFrames | ShiftedSound, ...]] = (
    *(LostFrames(*which) for which in product(get_args(Modality), get_args(Loss), RATES)),
    *map(ShiftedSound, DELAYS),
)
"""All that is done to every video, beside leaving a modality out."""


def area_under_curve(severity: Sequence[float], f1: Sequence[float]) -> float:
    """The area under macro-F1 over severity by the trapezoidal rule, divided by the curve's width.

    So it is a mean macro-F1: of lost frames over shares from 0 to 0.9, of shifted sound over ±500 ms.

    Args:
        severity: Rising.
        f1: Macro-F1 at each severity.

    Example:
        >>> round(area_under_curve([0.0, 0.1, 0.9], [0.5, 0.4, 0.2]), 4)
        0.3167
    """
    where, height = (torch.tensor(values, dtype=torch.float64) for values in (severity, f1))
    return float(torch.trapezoid(height, where) / (where[-1] - where[0]))


def summarise(confusions: dict[str, Tensor], class_names: Sequence[str]) -> dict[str, Any]:
    """All figures of the suite, ready for JSON.

    Args:
        confusions: int64 (V, C, C), counts of the same V videos, by the name of what was done to them; the
            first are undamaged.
        class_names: Names of the C classes.

    Returns:
        ``undamaged``, the name of the first; ``results`` by name, what `abaw.metrics.figures_of` says and
        ``f1_change``, macro-F1 less that of the first, with the 95 % ``f1_change_interval`` of a bootstrap
        that draws the same videos for both; and ``curves`` by name, with ``severity`` (0 being the first),
        ``f1``, ``f1_interval``, and ``area``, see `area_under_curve`.
    """
    undamaged, baseline = next(iter(confusions.items()))
    results = {name: figures_of(counts, class_names) for name, counts in confusions.items()}
    for name, counts in confusions.items():
        results[name]["f1_change"] = results[name]["f1"] - results[undamaged]["f1"]
        results[name]["f1_change_interval"] = bootstrap_interval(counts, baseline=baseline)

    curves = {}
    measured = [damage for damage in DAMAGES if damage.name in results]
    for curve, damages in groupby(measured, key=lambda damage: damage.curve):
        points = {0.0: results[undamaged]} | {damage.severity: results[damage.name] for damage in damages}
        severity = sorted(points)
        f1 = [points[x]["f1"] for x in severity]
        curves[curve] = {
            "severity": severity,
            "f1": f1,
            "f1_interval": [points[x]["f1_interval"] for x in severity],
            "area": area_under_curve(severity, f1),
        }
    return {"undamaged": undamaged, "results": results, "curves": curves}


def _as_batch(video: VideoFeatures) -> Batch:
    """A whole video as one long sample."""
    return Batch(
        visual_features=video.visual[None],
        audio_features=video.audio[None],
        video_mask=video.video_mask[None],
        audio_mask=video.audio_mask[None],
        time=video.time[None],
        target=video.target[None],
        frame=torch.arange(video.num_frames, device=video.target.device)[None],
        video_id=[video.video_id],
    )


def _changed(video: VideoFeatures, batch: Batch) -> VideoFeatures:
    return replace(
        video,
        visual=batch["visual_features"][0],
        audio=batch["audio_features"][0],
        video_mask=batch["video_mask"][0],
        audio_mask=batch["audio_mask"][0],
    )


def _frames_in(seconds: float, video: VideoFeatures) -> int:
    """How many frames of a video last so long, at least 1."""
    if video.num_frames < 2:
        return 1
    return max(1, round(seconds / float(video.time.diff().median())))
