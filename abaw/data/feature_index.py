"""The index of a folder of features: which videos it holds when it is complete, and where they are from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from abaw.data.feature_check import is_list_of
from abaw.errors import InputError
from abaw.files import by_name, check_utf8, composed, replacing

_VERSION: Final = 1
_INDEX: Final = "index.json"


def write_index(
    folder: Path,
    videos: Sequence[str],
    labels: Mapping[str, Path] | None = None,
    trained_on: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Say which videos a folder of features holds when it is complete.

    Args:
        folder: The folder.
        videos: Their names, in the order of the corpus: training windows are drawn by their numbers.
        labels: The file that each one's labels are from, where it has one.
        trained_on: The videos that the encoders have learned from, see `abaw.trained_on`.
    """
    index: dict[str, Any] = {"version": _VERSION, "videos": list(videos)}
    if labels:
        index["labels"] = {name: str(path.absolute()) for name, path in labels.items()}
    if trained_on:
        index["trained_on"] = {name: list(digests) for name, digests in trained_on.items()}
    with replacing(folder / _INDEX) as temporary:
        temporary.write_text(json.dumps(index, indent=1) + "\n", "utf-8")


def label_files(folder: Path) -> dict[str, Path]:
    """The file that each video's labels are from, where `write_index` was told."""
    return {name: Path(path) for name, path in _read_index(folder)["labels"].items()}


def encoders_trained_on(folder: Path) -> dict[str, list[str]]:
    """The videos that the encoders have learned from, as `write_index` was told."""
    videos: dict[str, list[str]] = _read_index(folder)["trained_on"]
    return videos


def read_index(folder: Path) -> list[Path]:
    """The files of a folder of features, in the order of the corpus.

    Raises:
        InputError: It is no such folder, or not complete.
    """
    names = _read_index(folder)["videos"]
    files = by_name(folder, ".safetensors")
    paths = [files.get(composed(name), folder / f"{name}.safetensors") for name in names]
    if missing := [path.stem for path in paths if not path.is_file()]:
        raise InputError(
            f"{folder}: {len(missing)} of {len(paths)} videos are missing (first: {', '.join(missing[:3])}); "
            "run 'abaw extract' again, it goes on where it stopped."
        )
    return paths


def _read_index(folder: Path) -> dict[str, Any]:
    check_utf8(folder)
    try:
        index = {"labels": {}, "trained_on": {}, **json.loads((folder / _INDEX).read_text("utf-8"))}
        names = index["videos"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{folder}: is no folder of features; 'abaw extract' writes one.") from error
    if not (is_list_of(names, str) and names and all(Path(name).name == name for name in names)):
        raise InputError(f"{folder / _INDEX}: names no videos; remove it and run 'abaw extract' again.")
    labels, trained_on = index["labels"], index["trained_on"]
    if not (
        isinstance(labels, dict)
        and is_list_of(list(labels.values()), str)
        and isinstance(trained_on, dict)
        and all(is_list_of(digests, str) for digests in trained_on.values())
        and len(set(names)) == len(names)
    ):
        raise InputError(f"{folder / _INDEX}: is damaged; remove it and run 'abaw extract' again.")
    return index
