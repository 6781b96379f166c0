"""Face crops on disk: which frames of a video have one, and what each one's file is called."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from abaw.errors import InputError
from abaw.files import is_stray, visible

_NAME: Final = re.compile(r"(?<![^/])(0*)(0|[1-9]\d{0,6})(\.(?:jpe?g|png))(?![^/])", re.ASCII | re.IGNORECASE)
_MOST_PATTERNS: Final = 255


@dataclass(frozen=True, eq=False)
class CropFiles:
    """The crops of a video of N frames, in a byte a frame: files are named by frame number, from 1.

    Attributes:
        folder: Where they lie; empty where there are none.
        patterns: The ways in which the files are named: least number of digits, ending.
        pattern: uint8 (N,), 1 + the index of the frame's own way; 0 where it has no crop.
        others: Names in the folder that are no frame's.
    """

    folder: str
    patterns: tuple[tuple[int, str], ...]
    pattern: NDArray[np.uint8]
    others: tuple[str, ...] = ()

    @classmethod
    def none(cls, num_frames: int) -> CropFiles:
        """No crop for any frame."""
        return cls("", (), np.zeros(num_frames, dtype=np.uint8))

    @property
    def present(self) -> NDArray[np.bool_]:
        """Bool (N,), which frames have a crop."""
        return self.pattern > 0

    def of(self, num_frames: int) -> CropFiles:
        """The same, for so many frames: without the crops beyond them."""
        pattern = np.zeros(num_frames, dtype=np.uint8)
        kept = self.pattern[:num_frames]
        pattern[: len(kept)] = kept
        return replace(self, pattern=pattern)

    def path(self, frame: int) -> str | None:
        """The file of a frame's crop, None if it has none."""
        index = int(self.pattern[frame])
        if index == 0:
            return None
        digits, ending = self.patterns[index - 1]
        return f"{self.folder}/{frame + 1:0{digits}d}{ending}"


def crop_name(frame: int) -> str:
    """The file of a frame's crop as Aff-Wild2 names it; files count from 1."""
    return f"{frame + 1:05d}.jpg"


def list_crops(folder: Path) -> CropFiles:
    """List a folder's crops: numbers of any width, from 1, JPEG or PNG in any case; N is the last number.

    The folder is read once, and no file of it. A folder that holds nothing but one folder stands for that.

    Raises:
        InputError: It can't be read, counts from 0, or has two files for one frame.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(f"{folder}: can't be read; restore it or remove it. ({error.strerror})") from error
    # All names at once, which is several times faster; no name has a slash.
    rows = _NAME.findall("/".join(names))
    others = [] if len(rows) == len(names) else _others(names)
    if not rows and len(others) == 1 and (folder / others[0]).is_dir():
        return list_crops(folder / others[0])
    numbers = np.fromiter((int(digits) for _, digits, _ in rows), dtype=np.int64, count=len(rows))
    _check_numbers(folder, names, numbers)
    # Without a leading zero, any width up to the number's own gives the name.
    ways = [(len(zeros) + len(digits) if zeros else 1, ending) for zeros, digits, ending in rows]
    patterns = {way: code for code, way in enumerate(dict.fromkeys(ways), start=1)}
    if len(patterns) > _MOST_PATTERNS:
        raise InputError(f"{folder}: its crops are named in {len(patterns)} ways; rename them.")
    pattern_of = np.zeros(int(numbers.max(initial=0)), dtype=np.uint8)
    pattern_of[numbers - 1] = [patterns[way] for way in ways]
    return CropFiles(str(folder), tuple(patterns), pattern_of, tuple(others))


def _others(names: Sequence[str]) -> list[str]:
    """Names that are no crop's, without what systems leave behind."""
    return sorted(name for name in names if not _NAME.fullmatch(name) and not is_stray(name))


def _check_numbers(folder: Path, names: Sequence[str], numbers: NDArray[np.int64]) -> None:
    """Refuse a frame 0, and two files of one frame."""
    values, counts = np.unique(numbers, return_counts=True)
    odd = values[(values == 0) | (counts > 1)]
    if not len(odd):
        return
    number = int(odd[0])
    found = sorted(name for name in names if (match := _NAME.fullmatch(name)) and int(match[2]) == number)
    if number == 0:
        raise InputError(
            f"{folder}: its crops count from 0 ({found[0]}), so each frame would get its neighbour's face; "
            f"rename them to count from 1, as {crop_name(0)} does."
        )
    raise InputError(f"{folder}: {found[0]} and {found[1]} are crops of one frame; remove one of the two.")


def read_crop(path: str) -> NDArray[np.uint8] | None:
    """Read a crop, uint8 (H, W, 3), in OpenCV's order of colours; None if it can't be read."""
    try:
        # Read at once: a small file costs little more than its calls to the system.
        with open(path, "rb", buffering=0) as file:
            picture = cv2.imdecode(np.frombuffer(file.readall(), np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    return cast("NDArray[np.uint8] | None", picture)


def any_readable(crops: Iterable[CropFiles]) -> bool:
    """Whether the first crop of any of these videos can be read; tries them in turn."""
    firsts = (files.path(int(files.present.argmax())) for files in crops if files.present.any())
    return any(path is not None and read_crop(path) is not None for path in firsts)


def fingerprint_crops(files: CropFiles, samples: int = 8) -> str:
    """SHA-256 of which frames have a crop, of how large each one's file is, and of the content of some.

    Args:
        files: The crops.
        samples: Of how many crops the content counts, evenly spaced from the first to the last.
    """
    digest = hashlib.sha256()
    frames = np.flatnonzero(files.present)
    places = np.linspace(0, len(frames) - 1, samples if len(frames) else 0).astype(int)
    read = set(frames[places].tolist())
    for frame in frames.tolist():
        path = files.path(frame)
        assert path is not None
        try:
            digest.update(f"{frame} {os.stat(path).st_size}\n".encode())
            if frame in read:
                digest.update(Path(path).read_bytes())
        except OSError:  # told where it is read
            digest.update(f"{frame} gone\n".encode())
    return digest.hexdigest()


def choose_crops(folders: Sequence[Path]) -> Path:
    """Of several folders of one video's crops, the one that holds any.

    Raises:
        InputError: Several do, and are not one and the same.
    """
    filled = {folder.resolve(): folder for folder in folders if any(visible(folder))}
    if len(filled) > 1:
        first, second, *_ = filled.values()
        raise InputError(f"{first} and {second} both hold crops of {first.name}; remove one of the two.")
    return next(iter(filled.values()), folders[0])
