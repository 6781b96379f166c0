"""What the reports of annotated videos share: counts of each video, and where their figures go."""

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import lightning.pytorch as pl
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from abaw.callbacks.results import DecidedBy, VideoScores, VideoScoresConsumer, gather
from abaw.errors import InputError
from abaw.files import make_writable, replacing
from abaw.folder_lock import LockingCallback
from abaw.labels import IGNORE_INDEX


class Counted(NamedTuple):
    """One video under one condition."""

    confusion: Tensor
    """int64 (C, C): rows are the annotated classes, columns the decided ones."""
    left_out: int
    """Annotated frames that no window covered."""
    decided_by: DecidedBy


class EvaluationReport(LockingCallback, VideoScoresConsumer):
    """Counts what ``trainer.test`` scores, sums over ranks, and prints and writes on the first.

    Every video counts once for any number of ranks. After a ``fast_dev_run`` nothing is written.

    Args:
        output_dir: Where the files go; ``None`` means the folder ``name`` in the trainer's
            ``default_root_dir``.
    """

    name: ClassVar[str]
    """Name of the folder, and of the JSON file."""
    conditions: ClassVar[Sequence[str]]
    """All that videos may be scored under, in the order of the report."""
    picture: ClassVar[str]
    """Name of the picture's file."""

    def __init__(self, output_dir: str | Path | None = None) -> None:
        self.output_dir = output_dir
        self._counted: dict[tuple[str, str], Counted] = {}

    @abstractmethod
    def summarise(
        self, trainer: pl.Trainer, counted: dict[str, list[Counted]], class_names: list[str]
    ) -> dict[str, Any]:
        """The figures, ready for JSON.

        Args:
            trainer: The trainer.
            counted: The same videos under each condition, by name; what was not scored is left out.
            class_names: Names of the C classes.
        """

    @abstractmethod
    def draw(self, report: dict[str, Any]) -> Figure:
        """The picture of the figures; without pyplot, so that no window system is asked for."""

    @abstractmethod
    def print_tables(self, report: dict[str, Any]) -> None:
        """Print the figures."""

    def locked_folder(self, trainer: pl.Trainer, stage: str) -> Path | None:
        """Where the files go."""
        writes = stage == "test" and not trainer.fast_dev_run  # type: ignore[attr-defined]
        return self._folder(trainer) if writes else None

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
        annotated = result.target != IGNORE_INDEX
        confusion = multiclass_confusion_matrix(
            result.labels,
            result.target.masked_fill(~result.covered, IGNORE_INDEX),
            num_classes=result.scores.shape[1],
            ignore_index=IGNORE_INDEX,
        )
        left_out = int((annotated & ~result.covered).sum())
        self._counted[result.condition, result.video_id] = Counted(confusion, left_out, result.decided_by)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather over ranks; print and write on the first.

        Not at the epoch's end: then, inference may still have a last video to hand over.

        Raises:
            InputError: If no annotated frame was scored.
        """
        # On every rank, so that all of them stop where there is nothing to report.
        everywhere = gather(self._counted)
        counted: dict[str, list[Counted]] = {}
        # By name: the bootstrap draws videos by number, and ranks finish in any order.
        for condition, video_id in sorted(
            everywhere, key=lambda key: (self.conditions.index(key[0]), key[1])
        ):
            counted.setdefault(condition, []).append(everywhere[condition, video_id])
        first = next(iter(counted.values()), [])
        if not any(video.confusion.any() for video in first):
            raise InputError("no annotated frame was scored: test on videos that have annotations")
        class_names = list(cast(Sequence[str], pl_module.class_names))
        report = {
            "class_names": class_names,
            "videos": len(first),
            "decided_by": dict(Counter(video.decided_by for video in first)),
            **self.summarise(trainer, counted, class_names),
        }
        if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return

        folder = self._folder(trainer)
        with replacing(folder / f"{self.name}.json") as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        with replacing(folder / self.picture) as temporary:
            self.draw(report).savefig(temporary, format="png", dpi=150)
        self.print_tables(report)
        Console().print(f"All figures: {folder}", markup=False, highlight=False, soft_wrap=True)

    def _folder(self, trainer: pl.Trainer) -> Path:
        return Path(self.output_dir or Path(trainer.default_root_dir) / self.name)


def tell_parameters(report: dict[str, Any]) -> str:
    """A sentence on whose parameters decided on the labels of how many videos; empty if it was the vote."""
    held_out, final = (report["decided_by"].get(f"{kind} parameters", 0) for kind in ("held-out", "final"))
    if not (held_out or final):
        return ""
    return (
        f" Labels by postprocess.yaml: {held_out} videos by parameters that were fitted without them, "
        f"{final} by the final ones, fitted on other videos. All were fitted to undamaged videos, and decide "
        "in every row."
    )


def print_whole(wide: Table, narrow: Table | None = None) -> None:
    """Print a table; where it doesn't fit on the terminal, a narrower one, if there is one."""
    console = Console()
    roomy = console.options.update(max_width=1000)
    table = wide
    if narrow and console.is_terminal and console.measure(wide, options=roomy).maximum > console.width:
        table = narrow
    # A line that is still too long is for the terminal to break: rich would cut it off.
    console.width = max(console.width, console.measure(table, options=roomy).maximum)
    console.print(table)
