"""What a test run says: one table, its figures as JSON, and a picture of the confusions."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from torchmetrics.utilities.plot import plot_confusion_matrix

from abaw.callbacks.counting import Counted, count, print_line, print_whole, tell_parameters
from abaw.callbacks.results import DecidedBy, VideoScores, VideoScoresConsumer, gather
from abaw.errors import InputError
from abaw.files import make_writable, replacing
from abaw.metrics import figures_of

_CONDITIONS: Final = ("audio+video", "video only", "audio only")


class TestReport(Callback, VideoScoresConsumer):
    """Tells how good the model is on the test videos, with both modalities and with each alone.

    Prints one table: macro-F1 with a 95 % bootstrap interval over videos, accuracy and per-class F1, a row
    for each condition that was scored and one for always answering the most frequent class. That class is the
    training labels' if the data module has ``class_counts`` (a tensor (C,)), else the evaluated frames'.
    Annotated frames that no window covered are left out, and counted below the table. Where labels follow
    ``postprocess.yaml``, it also says how many videos' were decided by parameters fitted without them.

    Beside it, ``test.json`` holds all figures and confusion matrices (rows are the annotated classes), and
    ``confusion_matrix.png`` the first condition's matrix, each row divided by its sum. Every video counts
    once for any number of ranks. After a ``fast_dev_run`` nothing is written.

    Args:
        output_dir: Where the two files go; ``None`` means ``test`` in the trainer's ``default_root_dir``.
    """

    __test__ = False  # Nothing for pytest to collect, whatever the name looks like.

    def __init__(self, output_dir: str | Path | None = None) -> None:
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

    def on_video_scored(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, result: VideoScores
    ) -> None:
        """Count one video's confusions under one condition."""
        if not trainer.testing:
            return
        self._counted[result.condition, result.video_id] = count(result)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather over ranks; print and write on the first.

        Not at the epoch's end: then, inference may still have a last video to hand over.

        Raises:
            InputError: If no annotated frame was scored.
        """
        class_names = list(cast(Sequence[str], pl_module.class_names))
        # On every rank, so that all of them stop where there is nothing to report.
        report = _summarise(gather(self._counted), class_names, _training_counts(trainer))
        if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return

        folder = self._folder(trainer)
        with replacing(folder / "test.json") as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        with replacing(folder / "confusion_matrix.png") as temporary:
            _draw(report).savefig(temporary, format="png", dpi=150)

        print_whole(_table(report), _table(report, narrow=True))
        print_line(f"All figures: {folder}")

    def _folder(self, trainer: pl.Trainer) -> Path:
        return Path(self.output_dir or Path(trainer.default_root_dir) / "test")


def _training_counts(trainer: pl.Trainer) -> Tensor | None:
    try:
        counts: Tensor | None = getattr(getattr(trainer, "datamodule", None), "class_counts", None)
    except InputError:  # A corpus to test on need not hold training videos.
        return None
    return counts


def _summarise(
    counted: dict[tuple[str, str], Counted], class_names: list[str], class_counts: Tensor | None
) -> dict[str, Any]:
    """The contents of ``test.json``."""
    results: dict[str, Any] = {}
    first: Tensor | None = None
    decided_by: Counter[DecidedBy] = Counter()
    for condition in _CONDITIONS:
        # By name: the bootstrap draws videos by number, and ranks finish in any order.
        videos = [counted[key] for key in sorted(counted) if key[0] == condition]
        if videos:
            confusions = torch.stack([video.confusion for video in videos])
            if first is None:
                first = confusions
                decided_by.update(video.decided_by for video in videos)
            results[condition] = figures_of(confusions, class_names)
            results[condition]["frames_left_out"] = sum(video.left_out for video in videos)
    if first is None or not first.any():
        raise InputError("no annotated frame was scored: test on videos that have annotations")

    frequency = first.sum((0, 2)) if class_counts is None else class_counts
    majority = int(frequency.argmax())
    always = torch.zeros_like(first)
    always[:, :, majority] = first.sum(-1)
    results["majority"] = figures_of(always, class_names)
    return {
        "class_names": class_names,
        "videos": len(first),
        "majority_class": class_names[majority],
        "majority_of": "evaluated frames" if class_counts is None else "training labels",
        "decided_by": dict(decided_by),
        "results": results,
    }


def _table(report: dict[str, Any], narrow: bool = False) -> Table:
    results = report["results"]
    caption = (
        f"95 % interval: bootstrap over {report['videos']} videos. "
        f"Majority: always {report['majority_class']}, the most frequent of the {report['majority_of']}."
    )
    for condition, figures in results.items():
        if figures.get("frames_left_out"):
            caption += (
                f" {condition}: {figures['frames_left_out']} annotated frames left out, having no score."
            )
    caption += tell_parameters(Counter(report["decided_by"]))
    table = Table(caption=escape(caption), caption_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    # Narrow columns are as wide as their numbers and fold their headings: eight classes fit on 80 characters.
    columns = {"macro-F1": 5, "95 % interval": 11, "accuracy": 5} | dict.fromkeys(report["class_names"], 4)
    for heading, digits in columns.items():
        table.add_column(escape(heading), justify="right", overflow="fold", width=digits if narrow else None)
    for condition, figures in results.items():
        low, high = figures["f1_interval"]
        table.add_row(
            condition,
            f"{figures['f1']:.3f}",
            f"{low:.3f}–{high:.3f}",
            f"{figures['accuracy']:.3f}",
            *(f"{f1:.2f}" for f1 in figures["f1_per_class"].values()),
        )
    return table


def _draw(report: dict[str, Any]) -> Figure:
    """Confusion matrix of the first condition, without pyplot: no window system is asked for."""
    condition, figures = next(iter(report["results"].items()))
    confusion = torch.tensor(figures["confusion_matrix"])
    side = 2 + len(confusion) * 0.9
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / confusion.sum(-1, keepdim=True).clamp(min=1)
    plot_confusion_matrix(shares, ax=axes, labels=report["class_names"], cmap="Blues")
    axes.set_title(f"{condition}: macro-F1 {figures['f1']:.3f}, {figures['frames']} frames")
    return figure
