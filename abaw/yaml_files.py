"""The one way in which YAML is read and written: a key stands once, and a fault has a file and a line."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from abaw.errors import InputError

_MERGE: Final = "tag:yaml.org,2002:merge"
_FLOAT: Final = "tag:yaml.org,2002:float"
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
# 1e-3 is a number to everybody but YAML 1.1, which wants 1.0e-3; the command line takes it too.
_SHORT_FLOAT: Final = re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?|[0-9][0-9_]*\.[0-9_]+|\.[0-9_]+)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, reads 1e-3 as a number, and a date as text."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not later: the keys that `<<` brings are there to be replaced.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                line = key.start_mark.line + 1
                if (key.tag, key.value) in first:
                    raise _GivenTwice(key.value, first[key.tag, key.value], line)
                first[key.tag, key.value] = line
        return node


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes texts which the loader would read as numbers."""


class _GivenTwice(yaml.YAMLError):
    def __init__(self, key: str, first: int, second: int) -> None:
        self.key, self.first, self.second = key, first, second


_Loader.yaml_implicit_resolvers = {
    character: [pair for pair in pairs if pair[0] != _TIMESTAMP]
    for character, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(_FLOAT, _SHORT_FLOAT, list("-+0123456789."))


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds: dicts, lists, texts, numbers, booleans and ``None``.

    Raises:
        InputError: If it can't be read, is no text in UTF-8, is not YAML, or gives a key twice; with the file
            and the line.
    """
    text = text_of(path)
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader
    except _GivenTwice as error:
        raise InputError(
            f"{path}, lines {error.first} and {error.second}: {error.key} is given twice; keep one"
        ) from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path}{line}: is not YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{path}, line {number}: holds the control character U+{error.character:04X}; take it out"
        ) from error
    except (ValueError, RecursionError) as error:  # `!!int x`, brackets within brackets without end
        raise InputError(f"{path}: is not YAML: {error}") from error


def read_configuration(path: str | Path) -> dict[str, Any]:
    """What a file of a configuration holds.

    Raises:
        InputError: As :func:`read_yaml`, and if it holds no keys.
    """
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise InputError(f"{path}: holds no configuration; see examples/ for one")
    return tree


def parse_yaml(text: str) -> Any:
    """What a text that is in no file stands for in YAML: ``yes`` for ``True``."""
    return yaml.load(text, Loader=_Loader)


def text_of(path: str | Path) -> str:
    """The text of a file that somebody typed, whatever the locale is; a byte order mark is left out.

    Raises:
        InputError: If it can't be read, or is no text in UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file in UTF-8; save it as one") from error


def lines_of_keys(path: str | Path) -> dict[str, int]:
    """In which line each key of a file that :func:`read_yaml` reads stands: ``{"model.lr": 3, …}``.

    Items of lists count from 0: ``trainer.callbacks.0.class_path``.
    """
    root = yaml.compose(text_of(path), Loader=_Loader)
    found: dict[str, int] = {}
    for key, line in _walk(root, "", ()) if root else ():
        found.setdefault(key, line)
    return found


def _walk(node: yaml.Node, prefix: str, above: tuple[yaml.Node, ...]) -> Iterator[tuple[str, int]]:
    if node in above:  # an anchor within itself
        return
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield f"{prefix}{index}", item.start_mark.line + 1
            yield from _walk(item, f"{prefix}{index}.", (*above, node))
    elif isinstance(node, yaml.MappingNode):
        # Own keys come first, and so replace what is merged in.
        for key, value in sorted(node.value, key=lambda pair: pair[0].tag == _MERGE):
            if key.tag == _MERGE:
                for merged in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                    yield from _walk(merged, prefix, (*above, node))
            elif isinstance(key, yaml.ScalarNode):
                yield f"{prefix}{key.value}", key.start_mark.line + 1
                yield from _walk(value, f"{prefix}{key.value}.", (*above, node))


def dump_yaml(tree: Any, **options: Any) -> str:
    """Text that :func:`read_yaml` reads as the same tree.

    Args:
        tree: Dicts, lists, texts, numbers, booleans and ``None``.
        **options: As for ``yaml.dump``.
    """
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **options)
    return text
