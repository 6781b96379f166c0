"""What a user gave a command, in files and on the command line, and where each key of it stands."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from abaw.arguments import take
from abaw.errors import InputError
from abaw.files import expand
from abaw.yaml_files import lines_of_keys, parse_yaml, read_configuration, read_yaml

SECTIONS: Final = ("trainer", "model", "data", "inference", "checkpoint", "report", "predictions")
# What may stand in a file of its own, whose name is then the value.
_MAY_BE_A_FILE: Final = {
    *SECTIONS,
    "model.visual_encoder",
    "model.audio_encoder",
    "model.fusion",
    "model.loss",
    "model.modality_dropout",
}


@dataclass(frozen=True)
class Given:
    """The keys that were given, by file and line, and on the command line.

    Attributes:
        files: Each file, in the order read, with the line of each of its keys.
        options: The keys on the command line, with their values.
    """

    files: tuple[tuple[str, dict[str, int]], ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def place(self, key: str, value: str | None = None) -> str:
        """``"own.yaml, line 3: "`` if a file gave a key, nothing if the command line did.

        Args:
            key: As in ``model.fusion.init_args.dim``; numbers of items and ``init_args`` may be missing.
            value: What was given, where it is known: files and the command line may both give the key.
        """
        wanted = _plain(key)
        if wanted in self.options and (value is None or _reads(self.options[wanted], value)):
            return ""
        for file, lines in reversed(self.files):
            for name, line in lines.items():
                if _plain(name) == wanted:
                    return f"{file}, line {line}: "
        return ""

    def place_of_name(self, name: str) -> str:
        """The place of the last key whose own name means a value that is no text, such as ``yes``."""
        for file, lines in reversed(self.files):
            for key, line in lines.items():
                if str(parse_yaml(key.rpartition(".")[2])) == name:
                    return f"{file}, line {line}: "
        return ""


def read_given(arguments: Sequence[str]) -> Given:
    """Read the configuration files that arguments name, and those that they name in turn.

    Raises:
        InputError: If one is missing, is not YAML, gives a key twice, holds no configuration, or leaves a
            section or a ``class_path`` empty.
    """
    _, long = take(list(arguments), "--config")
    rest, short = take(list(arguments), "-c")
    files = []
    for path in (*long, *short):
        file = expand(path)
        # A run's may be given as its content, which was read before.
        if os.path.isfile(file) or not _is_content(path):
            files += list(_read(file, read_configuration(file), ""))
    for option, value in _pairs(rest):
        if option in _MAY_BE_A_FILE and _is_yaml(Path(value)):
            files += list(_read(Path(value), read_yaml(value), f"{option}."))
    return Given(tuple(files), {_plain(option): value for option, value in _pairs(rest)})


def _read(path: Path, tree: Any, prefix: str) -> Iterator[tuple[str, dict[str, int]]]:
    lines = {f"{prefix}{key}": line for key, line in lines_of_keys(path).items()}
    yield str(path), lines
    for key, value in _leaves(tree, prefix):
        name = key.rpartition(".")[2]
        if key in SECTIONS and not isinstance(value, str):
            raise InputError(
                f"{path}, line {lines[key]}: {key} holds no options; put them below it, or leave it out"
            )
        if name == "class_path" and value is None:
            raise InputError(
                f"{path}, line {lines[key]}: {key} is empty; name the class, as in abaw.fusion.ConcatFusion"
            )
        if key in _MAY_BE_A_FILE and isinstance(value, str) and _is_yaml(nested := path.parent / value):
            yield from _read(nested, read_yaml(nested), f"{key}.")


def _leaves(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The keys of dicts within dicts that hold no dict."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if isinstance(value, dict) and value:
                yield from _leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value


def _is_yaml(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml", ".json") and path.is_file()


def _is_content(text: str) -> bool:
    try:
        return "\n" in text and isinstance(parse_yaml(text), dict)
    except (yaml.YAMLError, ValueError):
        return False


def _reads(typed: str, value: str) -> bool:
    """Whether a parser can have made a value of what was typed."""
    try:
        return value in (typed, str(parse_yaml(typed)))
    except (yaml.YAMLError, ValueError):
        return False


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options without their dashes, with what follows."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument.startswith("--"):
            option, equals, value = argument[2:].partition("=")
            yield option.rstrip("+"), value if equals else following


def _plain(key: str) -> str:
    """A key without what may be left out when it is typed."""
    return ".".join(part for part in key.split(".") if part != "init_args" and not part.isdigit())
