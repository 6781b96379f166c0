"""What a user types after a command, made into what LightningCLI parses."""

import os
from pathlib import Path

from abaw.errors import InputError
from abaw.postprocess import POSTPROCESS_FILE
from abaw.run_config import config_of_run


def expand_run(command: str, arguments: list[str]) -> list[str]:
    """Replace ``--run RUN`` by what the run's folder holds, first, so that later options win.

    That is its configuration and its checkpoint; for ``test``, ``robustness`` and ``predict`` also how labels
    are decided on, where that was tuned. Of the configuration is taken what a stranger's may say, and what is
    of the packages that ``--trust`` names, see `abaw.run_config`.

    Raises:
        InputError: If RUN is not a run's folder, there are several, a checkpoint is given without a
            configuration, or the configuration names code that is not trusted.
    """
    arguments, folders = take(arguments, "--run")
    arguments, trust = take(arguments, "--trust")
    if not folders:
        return _config_of_checkpoint(arguments, trust)
    if len(folders) > 1:
        raise InputError(f"--run is given {len(folders)} times; predict alone takes several runs")
    run_folder = Path(local_path("--run", folders[0]))
    config = run_folder / "config.yaml"
    if not config.is_file():
        raise InputError(
            f"{run_folder} is not the folder of a run: it holds no config.yaml, which 'abaw fit' writes"
        )
    names = ("last.ckpt",) if command == "fit" else ("best.ckpt", "last.ckpt")
    found = [path for name in names if (path := run_folder / "checkpoints" / name).is_file()]
    given = {argument.split("=")[0] for argument in arguments}
    if not found and "--ckpt_path" not in given:
        raise InputError(
            f"{run_folder}/checkpoints holds no {' or '.join(names)}: has 'abaw fit' ended there?"
        )
    if command == "tune" and given & {"--ckpt_path", "--weights"}:
        raise InputError(
            f"tune fits to the scores of the checkpoint in {run_folder}: leave --ckpt_path and --weights out"
        )
    ours = [
        f"--config={config_of_run(config, run_folder, trust, _typed(arguments))}",
        f"--trainer.default_root_dir={run_folder}",
    ]
    if found and "--weights" not in given:
        ours.append(f"--ckpt_path={found[0]}")
    # It suits the scores of the run's own weights, no others.
    tuned = run_folder / POSTPROCESS_FILE
    decides = command in ("test", "robustness", "predict")
    if decides and tuned.is_file() and not given & {"--ckpt_path", "--weights"}:
        ours.append(f"--inference.postprocess={tuned}")
    return [*ours, *arguments]


def _config_of_checkpoint(arguments: list[str], trust: list[str]) -> list[str]:
    configured = any(a.split("=")[0] in ("-c", "--config", "-h", "--help") for a in arguments)
    rest, checkpoints = take(arguments, "--ckpt_path")
    if configured or not checkpoints:
        return arguments
    checkpoint = local_path("--ckpt_path", checkpoints[-1])
    run_folder = Path(checkpoint).parent.parent
    config = run_folder / "config.yaml"
    if not config.is_file():
        raise InputError(
            f"{checkpoint} alone does not say how the model is made: add --run RUN or --config FILE"
        )
    ours = [
        f"--config={config_of_run(config, run_folder, trust, _typed(arguments))}",
        f"--trainer.default_root_dir={run_folder}",
    ]
    return [*ours, f"--ckpt_path={checkpoint}", *rest]


def _typed(arguments: list[str]) -> set[str]:
    return {argument.split("=")[0].lstrip("-").replace(".init_args", "") for argument in arguments}


def take(arguments: list[str], option: str) -> tuple[list[str], list[str]]:
    """Arguments without ``option``, and its values."""
    rest, values, given = [], [], iter(arguments)
    for argument in given:
        if argument == option:
            value = next(given, None)
            if value is None:
                raise InputError(f"{option} needs a value")
            values.append(value)
        elif argument.startswith(f"{option}="):
            values.append(argument.split("=", 1)[1])
        else:
            rest.append(argument)
    return rest, values


def local_path(option: str, path: str) -> str:
    """A path as it is handed on to Lightning: ``~`` is the home folder.

    Raises:
        InputError: If Lightning would look for it on a network.
    """
    expanded = os.path.expanduser(path)
    whole = os.path.abspath(expanded)
    if "://" in expanded or "::" in whole:
        raise InputError(
            f"{option} {path}: Lightning takes a path with :// or :: for one on a network, and runs are kept "
            "in folders on this machine: choose another name"
        )
    return expanded
