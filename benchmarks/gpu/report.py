"""Figures beside their limits and goals: one table."""

import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

COLUMNS = ("part", "figure", "value", "limit", "share", "goal", "met", "note")


@dataclass(frozen=True)
class Goal:
    """What a figure, or its share of the limit, should be."""

    sign: Literal["≥", "≤"]
    number: float
    of_limit: bool = False

    def __str__(self) -> str:
        return (
            f"{self.sign} {self.number:.0%} of it" if self.of_limit else f"{self.sign} {number(self.number)}"
        )

    def met(self, value: float, limit: float | None) -> bool:
        """Whether it is; a figure that is not a number meets nothing."""
        if self.of_limit:
            if not limit:
                return False
            value /= limit
        return value >= self.number if self.sign == "≥" else value <= self.number


@dataclass(frozen=True)
class Row:
    """A figure; ``value`` is None where there is none, and ``note`` then says why."""

    part: str
    figure: str
    value: float | None
    unit: str = ""
    limit: float | None = None
    """In the figure's own unit."""
    limit_is: str = ""
    goal: Goal | None = None
    note: str = ""
    failed: bool = False

    def cells(self) -> tuple[str, ...]:
        """The row's text, column by column."""
        value, unit = self.value, f" {self.unit}" if self.unit else ""
        measured = "failed" if self.failed else "—" if value is None else f"{number(value)}{unit}"
        limit = "" if self.limit is None else f"{number(self.limit)}{unit}"
        if self.limit_is:
            limit = f"{limit} ({self.limit_is})" if limit else self.limit_is
        share = f"{value / self.limit:.1%}" if self.limit and value is not None else ""
        met = ""
        if self.goal is not None:
            met = "not measured" if value is None else ("yes" if self.goal.met(value, self.limit) else "no")
        goal = "" if self.goal is None else str(self.goal)
        return self.part, self.figure, measured, limit, share, goal, met, self.note


def number(value: float) -> str:
    """Three or more digits, without an exponent where it is not needed.

    >>> [number(value) for value in (12345.6, 98.76, 23, 1.2345, 0.01234, 0.0, 1.2e-7)]
    ['12,346', '98.8', '23', '1.23', '0.0123', '0', '1.2e-07']
    """
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


class Report:
    """Takes a part's figures, each written when it is there, so that a part that is killed keeps its others.

    Args:
        part: The part's title.
        path: A file of one JSON object a line.
        deadline: When the part will be killed, seconds of `time.time`.
    """

    def __init__(self, part: str, path: Path, deadline: float) -> None:
        self.part = part
        self.path = path
        self.deadline = deadline

    def seconds_left(self) -> float:
        return self.deadline - time.time()

    def row(
        self,
        figure: str,
        value: float | None,
        unit: str = "",
        *,
        limit: float | None = None,
        limit_is: str = "",
        goal: Goal | None = None,
        note: str = "",
        failed: bool = False,
    ) -> None:
        """Add a figure."""
        row = Row(self.part, figure, value, unit, limit, limit_is, goal, note, failed)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(" | ".join(row.cells()), flush=True)

    @contextmanager
    def guard(self, figure: str, goal: Goal | None = None) -> Iterator[None]:
        """Let what goes wrong cost this figure alone."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.row(figure, None, goal=goal, note=in_a_line(error), failed=True)


def in_a_line(error: BaseException) -> str:
    """What an exception says, short enough for a table."""
    return shortened(f"{type(error).__name__}: {error}")


def shortened(text: str, length: int = 200) -> str:
    words = " ".join(text.replace("|", "/").split())
    return words if len(words) <= length else f"{words[: length - 2]} …"


def read_rows(path: Path) -> list[Row]:
    """What a part has reported until now; a line that was cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entries = json.loads(line)
        except json.JSONDecodeError:
            continue
        goal = entries.pop("goal")
        rows.append(Row(**entries, goal=None if goal is None else Goal(**goal)))
    return rows


def render(rows: Sequence[Row]) -> str:
    """A Markdown table that reads well as plain text too."""
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    widths[-1] = len(COLUMNS[-1])  # notes are long
    texts = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    texts.insert(1, "-|-".join("-" * width for width in widths))
    return "".join(f"| {text} |\n" if at != 1 else f"|-{text}-|\n" for at, text in enumerate(texts))


Measure = Callable[[Report, "Sizes"], None]


@dataclass(frozen=True)
class Sizes:
    """What a part works on.

    Attributes:
        small: Whether everything is tiny, and on the CPU.
        scratch: Where `gpu.prepare` has written networks, corpus and clips; the working directory.
        source: A copy of the repository.
    """

    small: bool
    scratch: Path
    source: Path
