"""What a trained model loses when face or sound do: two tables, their figures as JSON, and a picture."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from rich.table import Table

from abaw.callbacks.counting import Counted, count, print_line, print_whole, tell_parameters
from abaw.callbacks.inference import SlidingWindowInference
from abaw.callbacks.results import VideoFeaturesConsumer, VideoScores, VideoScoresConsumer, gather
from abaw.engine import VideoFeatures
from abaw.errors import InputError
from abaw.files import make_writable, replacing
from abaw.module import ExpressionModule
from abaw.robustness import RATES, STRETCH, Condition, ShiftedSound, conditions, summarise

_MODALITIES: Final = ("audio+video", "video only", "audio only")


class RobustnessReport(Callback, VideoFeaturesConsumer, VideoScoresConsumer):
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

    def __init__(self, seed: int = 0, output_dir: str | Path | None = None) -> None:
        self.seed = seed
        self.output_dir = output_dir
        self._counted: dict[tuple[str, str], Counted] = {}

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget an earlier run, and find out whether there is anywhere to report to.

        Raises:
            InputError: If the output folder cannot be written.
        """
        self._counted = {}
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            make_writable(self._folder(trainer))

    def on_video_encoded(self, trainer: pl.Trainer, pl_module: Any, video: VideoFeatures) -> None:
        """Damage one video in every way, and count what is made of it.

        Raises:
            InputError: If a score is not finite.
        """
        inference = next(c for c in trainer.callbacks if isinstance(c, SlidingWindowInference))  # type: ignore[attr-defined]
        for condition in _conditions(pl_module):
            damaged = condition.apply(video, self.seed)
            self.on_video_scored(
                trainer, pl_module, inference.score(trainer, pl_module, damaged, condition.name)
            )

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
        self._counted[result.condition, result.video_id] = count(result)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather over ranks; print and write on the first.

        Raises:
            InputError: If no annotated frame was scored.
        """
        # On every rank, so that all of them stop where there is nothing to report.
        report = self._summarise(gather(self._counted), list(cast(Sequence[str], pl_module.class_names)))
        if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return

        folder = self._folder(trainer)
        with replacing(folder / "robustness.json") as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        with replacing(folder / "robustness.png") as temporary:
            _draw(report).savefig(temporary, format="png", dpi=150)
        print_whole(_table_of_results(report))
        print_whole(_table_of_losses(report))
        print_line(f"All figures: {folder}")

    def _folder(self, trainer: pl.Trainer) -> Path:
        return Path(self.output_dir or Path(trainer.default_root_dir) / "robustness")

    def _summarise(self, counted: dict[tuple[str, str], Counted], class_names: list[str]) -> dict[str, Any]:
        """The contents of ``robustness.json``."""
        videos = sorted({video for _, video in counted})
        scored = {condition for condition, _ in counted}
        names = [*_MODALITIES, *(condition.name for condition in conditions())]
        confusions = {
            name: torch.stack([counted[name, video].confusion for video in videos])
            for name in names
            if name in scored
        }
        if not any(counts.any() for counts in confusions.values()):
            raise InputError("no annotated frame was scored: test on videos that have annotations")
        figures = summarise(confusions, class_names)
        undamaged = [counted[figures["undamaged"], video] for video in videos]
        return {
            "class_names": class_names,
            "videos": len(videos),
            "seed": self.seed,
            "stretch_seconds": STRETCH,
            "decided_by": dict(Counter(video.decided_by for video in undamaged)),
            "frames_left_out": sum(video.left_out for video in undamaged),
            "left_out": [name for name in names if name not in scored],
            **figures,
        }


def _conditions(module: ExpressionModule) -> list[Condition]:
    return conditions(visual=module.visual_encoder is not None, audio=module.audio_encoder is not None)


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
        caption += f" The model takes {undamaged}: {len(report['left_out'])} conditions left out."
    if report["frames_left_out"]:
        caption += f" {report['frames_left_out']} annotated frames left out, having no score."
    caption += tell_parameters(Counter(report["decided_by"]))
    table = _table(caption, ["macro-F1", "95 % interval", "change", "95 % interval"])
    shifts = (condition.name for condition in conditions() if isinstance(condition, ShiftedSound))
    for name in (*_MODALITIES, *shifts):
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


def _draw(report: dict[str, Any]) -> Figure:
    """Macro-F1 over severity with its bands, without pyplot: no window system is asked for."""
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
            axes.fill_between(curve["severity"], low, high, color=line.get_color(), alpha=0.12, linewidth=0)
        axes.set(xlabel=axis, ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left", fontsize="small")
    every[0].set_ylabel("macro-F1")
    figure.suptitle(f"{report['videos']} videos; bands: 95 %, bootstrap over videos")
    return figure
