"""What a trained model loses when face or sound do: two tables, their figures as JSON, and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from matplotlib.figure import Figure
from rich.table import Table

from abaw.callbacks.evaluation_report import Counted, EvaluationReport, print_whole, tell_parameters
from abaw.callbacks.inference import SlidingWindowInference
from abaw.callbacks.report import TestReport
from abaw.callbacks.results import VideoFeaturesConsumer, VideoScores
from abaw.engine import VideoFeatures
from abaw.errors import InputError
from abaw.ranges import MOST_SEED, check_count
from abaw.robustness import DAMAGES, RATES, STRETCH, ShiftedSound, summarise


class RobustnessReport(EvaluationReport, VideoFeaturesConsumer):
    """Tells what becomes of macro-F1 when frames are lost, or sound comes late, while ``trainer.test`` runs.

    To the conditions of a test (both modalities, each alone) it adds those of `abaw.robustness`. The features
    of a video are computed once, changed, and put to the vote of the trainer's `SlidingWindowInference` for
    each condition. Of a model with one modality, what needs the other is left out, and said so.

    Prints two tables, and writes ``robustness.json``, all figures, and ``robustness.png``, macro-F1 over
    severity with bands of 95 % (a bootstrap over videos). Every video counts once for any number of ranks.
    After a ``fast_dev_run`` nothing is written.

    Args:
        seed: Settles, with the video, which frames are lost.
        output_dir: Where the two files go; ``None`` means ``robustness`` in the trainer's
            ``default_root_dir``.
    """

    name = "robustness"
    picture = "robustness.png"
    conditions = (*TestReport.conditions, *(damage.name for damage in DAMAGES))

    def __init__(self, seed: int = 0, output_dir: str | Path | None = None) -> None:
        super().__init__(output_dir)
        check_count(0, MOST_SEED, seed=seed)
        self.seed = seed

    def on_video_encoded(self, trainer: pl.Trainer, pl_module: Any, video: VideoFeatures) -> None:
        """Damage one video in every way, and count what is made of it.

        Raises:
            InputError: If a score is not finite.
        """
        inference = next(c for c in trainer.callbacks if isinstance(c, SlidingWindowInference))  # type: ignore[attr-defined]
        encoders = {"video": pl_module.visual_encoder, "audio": pl_module.audio_encoder}
        for damage in DAMAGES:
            if all(encoders[modality] is not None for modality in damage.needs):
                damaged = damage.apply(video, self.seed)
                result = inference.score(trainer, pl_module, damaged, damage.name)
                self.on_video_scored(trainer, pl_module, result)

    def on_video_scored(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: VideoScores
    ) -> None:
        """Count one video's confusions under one condition.

        Raises:
            InputError: If a score is not finite.
        """
        if result.num_excluded:
            raise InputError(
                f"{result.video_id}, {result.condition}: {result.num_excluded} scores (frames of windows) "
                "are not finite; the fusion head or its weights are broken"
            )
        super().on_video_scored(trainer, pl_module, result)

    def summarise(
        self, trainer: pl.Trainer, counted: dict[str, list[Counted]], class_names: list[str]
    ) -> dict[str, Any]:
        """Figures of each condition and curve, see `abaw.robustness.summarise`, and what was left out."""
        confusions = {name: torch.stack([v.confusion for v in videos]) for name, videos in counted.items()}
        return {
            "seed": self.seed,
            "stretch_seconds": STRETCH,
            "frames_left_out": sum(video.left_out for video in next(iter(counted.values()))),
            "left_out": [name for name in self.conditions if name not in counted],
            **summarise(confusions, class_names),
        }

    def draw(self, report: dict[str, Any]) -> Figure:
        """Macro-F1 over severity, with its bands."""
        panels: dict[str, dict[str, Any]] = {}
        for name, curve in report["curves"].items():
            stream = name.split()[0]
            axis = "sound late by, ms" if name == ShiftedSound.curve else f"share of {stream} frames lost"
            panels.setdefault(axis, {})[name] = curve
        figure = Figure(figsize=(5 * len(panels), 4.5), layout="constrained")
        every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (axis, curves) in zip(every, panels.items(), strict=True):
            for name, curve in curves.items():
                low, high = zip(*curve["f1_interval"], strict=True)
                label = f"{name}: mean {curve['area']:.3f}"
                (line,) = axes.plot(curve["severity"], curve["f1"], marker="o", markersize=4, label=label)
                axes.fill_between(
                    curve["severity"], low, high, color=line.get_color(), alpha=0.12, linewidth=0
                )
            axes.set(xlabel=axis, ylim=(0, None))
            axes.grid(alpha=0.3)
            axes.legend(loc="lower left", fontsize="small")
        every[0].set_ylabel("macro-F1")
        figure.suptitle(f"{report['videos']} videos; bands: 95 %, bootstrap over videos")
        return figure

    def print_tables(self, report: dict[str, Any]) -> None:
        """Print single modalities and shifted sound, then macro-F1 over the share of lost frames."""
        print_whole(_table_of_results(report))
        print_whole(_table_of_losses(report))


def _table(caption: str, headings: Sequence[str]) -> Table:
    table = Table("", caption=caption, caption_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _table_of_results(report: dict[str, Any]) -> Table:
    """What has no curve over the share of lost frames: each modality alone, and shifted sound."""
    undamaged = report["undamaged"]
    caption = f"Change: from {undamaged}. 95 % intervals: bootstrap over {report['videos']} videos."
    if report["left_out"]:
        number = len(report["left_out"])
        caption += f" The model takes {undamaged}: {number} conditions that need more are left out."
    if report["frames_left_out"]:
        caption += f" {report['frames_left_out']} annotated frames left out, having no score."
    caption += tell_parameters(report)
    table = _table(caption, ["macro-F1", "95 % interval", "change", "95 % interval"])
    shifts = (damage.name for damage in DAMAGES if isinstance(damage, ShiftedSound))
    for name in (*TestReport.conditions, *shifts):
        if (figures := report["results"].get(name)) is not None:
            low, high = figures["f1_interval"]
            row = [f"{figures['f1']:.3f}", f"{low:.3f}–{high:.3f}"]
            if name != undamaged:
                low, high = figures["f1_change_interval"]
                row += [f"{figures['f1_change']:+.3f}", f"{low:+.3f}…{high:+.3f}"]
            table.add_row(name, *row)
    return table


def _table_of_losses(report: dict[str, Any]) -> Table:
    caption = (
        f"Macro-F1 over the share of frames lost. All but random losses come in stretches of {STRETCH:g} s. "
        f"Mean: area under the curve from 0 to {RATES[-1]}, divided by its width."
    )
    table = _table(caption, ["0.0", *map(str, RATES), "mean"])
    for name, curve in report["curves"].items():
        if name != ShiftedSound.curve:
            table.add_row(name, *(f"{f1:.3f}" for f1 in (*curve["f1"], curve["area"])))
    return table
