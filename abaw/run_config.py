"""The configuration that lies in a run's folder, which anybody may have written."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Final

from lightning.pytorch.utilities import rank_zero_warn

from abaw.trust import check_names, read_text
from abaw.yaml_files import dump_yaml, read_configuration

# What our parts and Lightning's call a folder or a file that they write.
_FOLDERS: Final = ("output_dir", "dirpath", "save_dir", "cache_dir", "root_dir", "log_dir", "dir")
_NAMES: Final = ("filename", "name", "version", "sub_dir")


def config_of_run(config: Path, folder: Path, trust: Iterable[str], typed: Collection[str] = ()) -> str:
    """What ``--config`` is given for the configuration of a run.

    Args:
        config: The file.
        folder: The run's folder.
        trust: Packages that it may name beside abaw and Lightning.
        typed: Options that are given beside it, without their dashes; they win anyway.

    Returns:
        The file's path; or its content, where it would have something written outside of the run's folder:
        that is left out, and told. What was typed when the run was trained must be typed again.

    Raises:
        InputError: If it cannot be read, or names code that is not trusted.
    """
    tree = read_configuration(config)
    check_names(tree, config, trust)
    outside: dict[str, str] = {}
    confined = _confine(tree, folder.resolve(), "", outside)
    if not outside:
        return str(config)
    told = [f"{key} ({path})" for key, path in outside.items() if key.replace(".init_args", "") not in typed]
    if told:
        rank_zero_warn(
            f"{config}: {', '.join(told)} lies outside of the run's folder and is not written to; "
            "to have it so, type it as an option"
        )
    return dump_yaml(confined)


def _confine(tree: Any, folder: Path, key: str, outside: dict[str, str]) -> Any:
    """A tree without the places to write at that are outside of a folder; they are added to ``outside``."""
    if isinstance(tree, dict):
        return {
            name: _confine(branch, folder, f"{key}.{name}" if key else str(name), outside)
            for name, branch in tree.items()
        }
    if isinstance(tree, list):
        return [_confine(branch, folder, f"{key}.{number}", outside) for number, branch in enumerate(tree)]
    if not isinstance(tree, str):
        return tree
    name = key.rpartition(".")[2]
    if _leads_outside(name, tree, folder):
        outside[key] = tree
        if not key.startswith("trainer."):
            return None  # ours know where to write in the run's folder
        return str(folder) if name in _FOLDERS else tree.replace(os.sep, "_").replace("..", "_")
    # The parser reads texts as YAML once more.
    inner, before = read_text(tree), len(outside)
    confined = _confine(inner, folder, key, outside) if isinstance(inner, (dict, list)) else tree
    return confined if len(outside) > before else tree


def _leads_outside(name: str, value: str, folder: Path) -> bool:
    if name in _FOLDERS:
        return not Path(os.path.realpath(os.path.expanduser(value))).is_relative_to(folder)
    return name in _NAMES and (os.path.isabs(value) or ".." in Path(value).parts)
