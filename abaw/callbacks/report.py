"""What a test run says: one table, its figures as JSON, and a picture of the confusions."""

from typing import Any

import lightning.pytorch as pl
import torch
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from torchmetrics.utilities.plot import plot_confusion_matrix

from abaw.callbacks.evaluation_report import Counted, EvaluationReport, print_whole, tell_parameters
from abaw.errors import InputError
from abaw.metrics import figures_of


class TestReport(EvaluationReport):
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
    name = "test"
    picture = "confusion_matrix.png"
    conditions = ("audio+video", "video only", "audio only")

    def summarise(
        self, trainer: pl.Trainer, counted: dict[str, list[Counted]], class_names: list[str]
    ) -> dict[str, Any]:
        """Figures of each condition, and of always answering the most frequent class."""
        confusions = {name: torch.stack([v.confusion for v in videos]) for name, videos in counted.items()}
        results = {name: figures_of(counts, class_names) for name, counts in confusions.items()}
        for name, videos in counted.items():
            results[name]["frames_left_out"] = sum(video.left_out for video in videos)

        first, class_counts = next(iter(confusions.values())), _training_counts(trainer)
        majority = int((first.sum((0, 2)) if class_counts is None else class_counts).argmax())
        always = torch.zeros_like(first)
        always[:, :, majority] = first.sum(-1)
        results["majority"] = figures_of(always, class_names)
        return {
            "majority_class": class_names[majority],
            "majority_of": "evaluated frames" if class_counts is None else "training labels",
            "results": results,
        }

    def draw(self, report: dict[str, Any]) -> Figure:
        """Confusion matrix of the first condition."""
        condition, figures = next(iter(report["results"].items()))
        confusion = torch.tensor(figures["confusion_matrix"])
        side = 2 + len(confusion) * 0.9
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        shares = confusion / confusion.sum(-1, keepdim=True).clamp(min=1)
        plot_confusion_matrix(shares, ax=axes, labels=report["class_names"], cmap="Blues")
        axes.set_title(f"{condition}: macro-F1 {figures['f1']:.3f}, {figures['frames']} frames")
        return figure

    def print_tables(self, report: dict[str, Any]) -> None:
        """Print a table that fits on the terminal, if one can."""
        print_whole(_table(report), _table(report, narrow=True))


def _training_counts(trainer: pl.Trainer) -> Tensor | None:
    try:
        counts: Tensor | None = getattr(getattr(trainer, "datamodule", None), "class_counts", None)
    except InputError:  # A corpus to test on need not hold training videos.
        return None
    return counts


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
    caption += tell_parameters(report)
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
