"""Where the parts of Aff-Wild2 lie: found by name, a few levels down, as the organisers' archives unpack."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from abaw.errors import InputError
from abaw.files import expand, is_stray, visible

ANNOTATION_FOLDERS: Final = ("EXPR_Recognition_Challenge", "EXPR_Classification_Challenge")
CROP_FOLDERS: Final = ("cropped_aligned", "cropped_aligned_new_50_vids")
RAW_FOLDERS: Final = ("batch1", "batch2", "new_vids")
RAW_SUFFIXES: Final = (".mp4", ".avi", ".mpg", ".mkv", ".mov", ".webm")
LABEL_FOLDERS: Final = ("Train_Set", "Validation_Set")
LIST_ENDING: Final = "test_set_release.txt"
TEMPLATE_ENDING: Final = "test_set_sample.txt"

_LEVELS: Final = 4  # folders from the root down to one that is looked for
# A folder that holds more than this holds videos or pictures: what is looked for has few neighbours.
_MOST_FOLDERS, _MOST_ENTRIES = 60, 2000
_OTHER_CHALLENGES: Final = {
    *("va", "valence", "arousal", "au", "aus", "action", "mtl", "multi", "multitask", "ce", "compound")
}


@dataclass(frozen=True)
class Places:
    """Where the parts of a corpus lie.

    Attributes:
        root: The folder that was searched.
        annotations: The folder that holds ``Train_Set`` and ``Validation_Set``; None where there is none.
        crops: The folders that hold a folder of crops for each video.
        videos: The folders that hold raw videos.
        lists: Every file called ``…test_set_release.txt``, of whichever challenge.
        templates: Every file called ``…test_set_sample.txt``, of whichever challenge.
    """

    root: Path
    annotations: Path | None
    crops: list[Path]
    videos: list[Path]
    lists: list[Path]
    templates: list[Path]

    def test_list(self) -> Path | None:
        """The list of the expression challenge's test videos, None if there isn't one.

        Raises:
            InputError: There are several.
        """
        return _choose(self.root, self.lists)

    def template(self) -> Path | None:
        """The submission template of the expression challenge, None if there isn't one.

        Raises:
            InputError: There are several.
        """
        return choose_template(self.root, self.templates)


def find_places(
    root: Path,
    annotations: str | Path | None = None,
    crops: Sequence[str | Path] | None = None,
    videos: Sequence[str | Path] | None = None,
) -> Places:
    """Find the parts of a corpus by their names, up to four folders down, in any wrapping.

    Folders are read, no file is; none that holds many folders or files, as one of crops does.

    Args:
        root: The folder to search.
        annotations: The folder of the labels, or one around it, instead of what is found.
        crops: The folders of the crops, or some around them, instead of those that are found.
        videos: The folders of the raw videos, or some around them, instead of those that are found.

    Raises:
        InputError: A folder is missing or holds nothing of its kind, or two fit.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; set root to the folder that holds Aff-Wild2.")
    found = _search(root)
    labels = found.one_of(ANNOTATION_FOLDERS, "annotations") if annotations is None else _given(annotations)
    if crops is None:
        crop_folders = found.each_of(CROP_FOLDERS, "crops")
    else:
        crop_folders = [folder for path in crops for folder in _given_each(path, CROP_FOLDERS, "crops")]
    if videos is None:
        raw_folders = found.each_of(RAW_FOLDERS, "videos")
    else:
        raw_folders = [folder for path in videos for folder in _given_each(path, RAW_FOLDERS, "videos")]
    beside = [] if labels is None else visible(labels, ".txt")
    return Places(
        root,
        labels,
        crop_folders,
        raw_folders,
        _named([*found.texts, *beside], LIST_ENDING),
        _named([*found.texts, *beside], TEMPLATE_ENDING),
    )


def choose_template(root: Path, paths: Sequence[Path]) -> Path | None:
    """The expression challenge's template of some files, by header and name; None if there isn't one.

    Raises:
        InputError: There are several.
    """
    kinds = {path: _kind_of_header(path) for path in paths}
    known = [path for path, kind in kinds.items() if kind is True]
    return _choose(root, known or [path for path, kind in kinds.items() if kind is None])


@dataclass
class _Found:
    """What a search has met: folders of the known names, outermost first, and text files."""

    folders: list[Path] = field(default_factory=list)
    texts: list[Path] = field(default_factory=list)

    def each_of(self, names: Collection[str], argument: str) -> list[Path]:
        """For each name the folder of it, unpacked; names may be missing."""
        found = [self._single([name], argument) for name in names]
        return [part for folder in found if folder is not None for part in _unpacked(folder, names)]

    def one_of(self, names: Collection[str], argument: str) -> Path | None:
        """The one folder that has any of the names, unpacked."""
        folders = [part for folder in self._of(names) for part in _unpacked(folder, names)]
        return self._check_single([f for f in folders if _holds_labels(f)] or folders, argument)

    def _of(self, names: Collection[str]) -> list[Path]:
        return [folder for folder in self.folders if _is_called(folder, names)]

    def _single(self, names: Collection[str], argument: str) -> Path | None:
        return self._check_single(self._of(names), argument)

    def _check_single(self, folders: Sequence[Path], argument: str) -> Path | None:
        if len(folders) > 1:
            both = " and ".join(map(str, folders[:2]))
            raise InputError(f"{both} both fit; keep one of the two, or set {argument} to what is meant.")
        return folders[0] if folders else None


def _search(root: Path) -> _Found:
    found = _Found()
    known = (*ANNOTATION_FOLDERS, *CROP_FOLDERS, *RAW_FOLDERS)
    seen = {root.resolve()}
    level = [root]
    for _ in range(_LEVELS):
        deeper: list[Path] = []
        for folder in level:
            folders, texts = _entries(folder)
            found.texts += texts
            for inner in folders:
                if (place := inner.resolve()) in seen:  # a link to what was met already
                    continue
                seen.add(place)
                (found.folders if _is_called(inner, known) else deeper).append(inner)
        level = [folder for folder in deeper if _is_looked_into(folder)]
    return found


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the text files in a folder, by name."""
    folders, texts = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_stray(entry.name):
                    continue
                if entry.name.lower().endswith(".txt"):
                    texts.append(folder / entry.name)
                elif _is_dir(entry):
                    folders.append(folder / entry.name)
    except OSError:  # what nobody may look into, or is gone by now
        return [], []
    return sorted(folders), sorted(text for text in texts if text.is_file())


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def _is_looked_into(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            first = list(islice(entries, _MOST_ENTRIES + 1))
    except OSError:
        return False
    return len(first) <= _MOST_ENTRIES and sum(map(_is_dir, first)) <= _MOST_FOLDERS


def _unpacked(folder: Path, names: Collection[str]) -> list[Path]:
    """A folder, and those of such a name in it: archives unpack into a folder of their own name."""
    inner = [part for part in visible(folder) if _is_called(part, names) and part.is_dir()]
    if not inner:
        return [folder]
    kept = [] if _is_wrapping(folder, inner) else [folder]
    return kept + [part for child in inner for part in _unpacked(child, names)]


def _is_wrapping(folder: Path, inner: Sequence[Path]) -> bool:
    """Whether a folder holds nothing of its own beside some folders in it."""
    rest = [part for part in visible(folder) if part not in inner]
    return not any(part.is_dir() or part.suffix.lower() in RAW_SUFFIXES for part in rest)


def _given(path: str | Path) -> Path:
    """The folder of the labels in one that a user names."""
    folder = _existing(path, "annotations")
    if _holds_labels(folder):
        return folder
    labels = _search(folder).one_of(ANNOTATION_FOLDERS, "annotations")
    if labels is None:
        raise InputError(f"{folder}: holds neither {' nor '.join(LABEL_FOLDERS)}; set annotations anew.")
    return labels


def _given_each(path: str | Path, names: Collection[str], argument: str) -> list[Path]:
    """The folders of some names in one that a user names, or else that one."""
    folder = _existing(path, argument)
    return _search(folder).each_of(names, argument) or [folder]


def _existing(path: str | Path, argument: str) -> Path:
    folder = expand(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; set {argument} anew.")
    return folder


def _holds_labels(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in LABEL_FOLDERS)


def _is_called(folder: Path, names: Iterable[str]) -> bool:
    return folder.name.casefold() in {name.casefold() for name in names}


def _named(paths: Iterable[Path], ending: str) -> list[Path]:
    return list(dict.fromkeys(path for path in paths if path.name.lower().endswith(ending)))


def _choose(root: Path, paths: Sequence[Path]) -> Path | None:
    """The expression challenge's file of some that the challenges on Aff-Wild2 name alike."""
    words = {path: re.split(r"[^a-z]+", path.stem.lower()) for path in paths}
    open_to_us = [path for path in paths if not _OTHER_CHALLENGES.intersection(words[path])]
    ours = [path for path in open_to_us if any(word.startswith("expr") for word in words[path])]
    chosen = ours or open_to_us
    copies = {path.read_bytes(): path for path in reversed(chosen)}
    if len(copies) > 1:
        first, second, *_ = reversed(copies.values())
        raise InputError(f"{root}: {first} and {second} both fit; keep one of the two, or set template.")
    return chosen[0] if chosen else None


def _kind_of_header(path: Path) -> bool | None:
    """Whether a template's header names expressions; None if it names nothing."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        _, *names = (name.strip().lower() for name in file.readline().split(","))
    if not names:
        return None
    return not any(name in ("valence", "arousal") or re.fullmatch(r"au\d+", name) for name in names)
