"""What reports of annotated videos share: counts of each video, and tables that lose no number."""

from collections import Counter
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from abaw.callbacks.results import DecidedBy, VideoScores
from abaw.labels import IGNORE_INDEX


class Counted(NamedTuple):
    """One video under one condition."""

    confusion: Tensor
    """int64 (C, C): rows are the annotated classes, columns the decided ones."""
    left_out: int
    """Annotated frames that no window covered."""
    decided_by: DecidedBy


def count(result: VideoScores) -> Counted:
    """Count one video's confusions in the frames that are annotated and covered."""
    annotated = result.target != IGNORE_INDEX
    confusion = multiclass_confusion_matrix(
        result.labels,
        result.target.masked_fill(~result.covered, IGNORE_INDEX),
        num_classes=result.scores.shape[1],
        ignore_index=IGNORE_INDEX,
    )
    return Counted(confusion, int((annotated & ~result.covered).sum()), result.decided_by)


def tell_parameters(decided_by: Counter[DecidedBy]) -> str:
    """A sentence on whose parameters decided on the labels of how many videos; empty if it was the vote."""
    held_out, final = (decided_by[kind] for kind in ("held-out parameters", "final parameters"))
    if not (held_out or final):
        return ""
    return (
        f" Labels by postprocess.yaml: {held_out} videos by parameters that were fitted without them, "
        f"{final} by the final ones, fitted on other videos."
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


def print_line(line: str) -> None:
    """Print a line as it is; the terminal breaks it."""
    Console().print(line, markup=False, highlight=False, soft_wrap=True)
