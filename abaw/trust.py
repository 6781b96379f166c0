"""What a checkpoint or a run's folder may name: no code but abaw's, Lightning's parts, and trusted packages'.

Checkpoints and configurations name classes by their import path, and importing runs code. Whoever loads a run
that somebody else has made must not run what that somebody wrote, so names are held against a list before
anything of theirs is imported.
"""

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
import yaml
from torch.nn.modules import loss as losses

from abaw.errors import InputError

_OWN: Final = (
    "abaw",
    *(
        f"lightning.pytorch.{room}"
        for room in (
            "accelerators",
            "callbacks",
            "loggers",
            "plugins",
            "profilers",
            "strategies",
        )
    ),
)
_DEFINED: Final = ("abaw", "lightning")
_IMPORT_PATH: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_CLASS_KEYS: Final = ("class_path", "_class_path")
# Texts that are never taken for code, as they are names and paths of data.
_DATA_KEYS: Final = frozenset(
    (
        *("root", "annotations", "crops", "videos", "template", "cache_dir", "postprocess", "face_detector"),
        *("output_dir", "dirpath", "save_dir", "default_root_dir", "root_dir", "log_dir", "dir", "sub_dir"),
        *("filename", "name", "version", "prefix", "model_name", "monitor", "class_names"),
        *("ckpt_path", "weights", "file"),
    )
)


def check_names(tree: Any, where: str | Path, trust: Iterable[str] = ()) -> None:
    """Refuse a configuration that names foreign code; nothing foreign is imported to find out.

    Args:
        tree: Plain data: nested dictionaries and lists, as of a YAML file or of a checkpoint's
            hyper-parameters.
        where: The file that it is of, for the message.
        trust: Packages or modules whose names are accepted too.

    Raises:
        InputError: If a class, or what could be taken for a function, is of no package that may be named.
    """
    trusted, folder = tuple(trust), Path(where).parent
    for key, name in _names(tree):
        if any(os.path.isfile(path) for path in (name, folder / name)):
            raise InputError(f"{where}: {key} is the file {name}; write its content in its place")
        if not _IMPORT_PATH.fullmatch(name):
            continue
        if not (_within(name, trusted) or _is_own(name)):
            package = name.partition(".")[0]
            raise InputError(
                f"{where}: {key} is {name}, no part of abaw or Lightning, and loading it would run its code: "
                f'if you trust it, add --trust {package} (in Python: trust=["{package}"])'
            )


def run_again(command: str, trainer: pl.Trainer, module: pl.LightningModule) -> str:
    """What to type to go on with a run, which must name the packages of its own classes again."""
    slots = ("visual_encoder", "audio_encoder", "fusion", "loss", "modality_dropout")
    parts = [getattr(module, slot, None) for slot in slots]
    parts += [trainer.datamodule, *trainer.callbacks]  # type: ignore[attr-defined]
    kinds = {type(part) for part in parts if part is not None}
    foreign = {k.__module__.partition(".")[0] for k in kinds if not _is_own(f"{k.__module__}.{k.__name__}")}
    trust = [word for package in sorted(foreign) for word in ("--trust", package)]
    return shlex.join(["abaw", command, "--run", trainer.default_root_dir, *trust])


def _within(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _is_own(name: str) -> bool:
    """Whether a name is that of a class of ours or of Lightning's."""
    module, _, attribute = name.rpartition(".")
    if module in ("torch.nn", "torch.nn.modules.loss"):  # a loss is made of plain numbers alone
        return attribute in losses.__all__
    # A module that is private or named __main__ does things when it is imported.
    if not _within(module, _OWN) or any(part.startswith("_") for part in name.split(".")):
        return False
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        # `abaw.recorded.functools.partial`: what a module of ours has imported is not ours to give.
        return False
    # The parser knows better what to say of a name that is none.
    return found is None or (isinstance(found, type) and _within(found.__module__, _DEFINED))


def _names(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The texts of a tree that the parser might import or open, with their dotted keys."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from _names(branch, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, (list, tuple)):
        for number, branch in enumerate(tree):
            yield from _names(branch, f"{key}.{number}")
    elif isinstance(tree, str):
        last = next(part for part in reversed(["", *key.split(".")]) if not part.isdigit())
        if last in _CLASS_KEYS:
            # Without a dot, it is looked up among the classes that there are already.
            if "." in tree:
                yield key.removesuffix(f".{last}"), tree
        elif last not in _DATA_KEYS:
            yield from _names_in_text(tree, key)


def _names_in_text(text: str, key: str) -> Iterator[tuple[str, str]]:
    if not _IMPORT_PATH.fullmatch(text) or _is_importable(text):
        yield key, text
    inner = read_text(text)
    if isinstance(inner, (dict, list)):
        yield from _names(inner, key)


def read_text(text: str) -> Any:
    """What the parser makes of a text that stands in a configuration: it is read as YAML once more."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _is_importable(name: str) -> bool:
    try:
        return find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return True
