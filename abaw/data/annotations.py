"""Reading the annotation files of Aff-Wild2: a header of class names, then one label a frame."""

from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from abaw.errors import InputError
from abaw.labels import IGNORE_INDEX


@dataclass(frozen=True, eq=False)
class Annotation:
    """One annotation file.

    Attributes:
        class_names: The C names of the header, in its order.
        labels: int64 (N,), class index 0…C-1 of every frame, ``IGNORE_INDEX`` where not annotated.
    """

    class_names: tuple[str, ...]
    labels: NDArray[np.int64]


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the header of an annotation file alone, or of a submission template (``image_location,…``).

    Raises:
        InputError: The file can't be read, is empty, or its first line is not a list of two or more names.
    """
    with _open(path) as file:
        return _parse_header(file.readline().removeprefix("image_location,"), path)


def read_annotation(path: Path) -> Annotation:
    """Read an annotation file whole; rows of -1 are kept, since a row's number is its frame's.

    Raises:
        InputError: The file can't be read, is empty or malformed, or a label is outside -1…C-1; the message
            names the line.
    """
    with _open(path) as file:
        class_names = _parse_header(file.readline(), path)
        rows = file.read().rstrip().splitlines()
    if not rows:
        raise InputError(f"{path}: has a header but no labels; restore the file or remove it.")
    labels = np.empty(len(rows), dtype=np.int64)
    for index, row in enumerate(rows):
        try:
            labels[index] = int(row)
        except (ValueError, OverflowError):
            raise InputError(
                f"{path}, line {index + 2}: expected one integer, found {row.strip()!r}."
            ) from None
    last = len(class_names) - 1
    outside = np.flatnonzero((labels < IGNORE_INDEX) | (labels > last))
    if outside.size:
        index = int(outside[0])
        raise InputError(f"{path}, line {index + 2}: label {labels[index]} is outside {IGNORE_INDEX}…{last}.")
    return Annotation(class_names, labels)


def _open(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(
            f"{path}: can't be read; restore the file or remove it. ({error.strerror})"
        ) from error


def _parse_header(line: str, path: Path) -> tuple[str, ...]:
    if not line.strip():
        raise InputError(f"{path}: is empty; restore the file or remove it.")
    names = tuple(name.strip() for name in line.split(","))
    is_number = [name.lstrip("-").isdigit() for name in names]
    if len(names) < 2 or not all(names) or any(is_number) or len(set(names)) < len(names):
        raise InputError(
            f"{path}, line 1: expected class names such as Neutral,Anger,…, found {line.strip()!r}."
        )
    return names
