"""What a user types after a command, made into what LightningCLI parses."""

from pathlib import Path

import yaml

from abaw.errors import InputError
from abaw.postprocess import POSTPROCESS_FILE


def expand_run(command: str, arguments: list[str]) -> list[str]:
    """Replace ``--run RUN`` by what the run's folder holds, first, so that later options win.

    That is its configuration and its checkpoint; for ``test``, ``robustness`` and ``predict`` also how labels
    are decided on, where that was tuned.

    Raises:
        InputError: If RUN is not a run's folder, there are several, or a checkpoint is given without a
            configuration.
    """
    arguments, folders = take(arguments, "--run")
    if not folders:
        return _config_of_checkpoint(arguments)
    if len(folders) > 1:
        raise InputError(f"--run is given {len(folders)} times; predict alone takes several runs")
    run_folder = Path(folders[0])
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
    ours = [f"--config={config}", f"--trainer.default_root_dir={run_folder}"]
    if found and "--weights" not in given:
        ours.append(f"--ckpt_path={found[0]}")
    # It suits the scores of the run's own weights, no others.
    tuned = run_folder / POSTPROCESS_FILE
    decides = command in ("test", "robustness", "predict")
    if decides and tuned.is_file() and not given & {"--ckpt_path", "--weights"}:
        ours.append(f"--inference.postprocess={tuned}")
    return [*ours, *arguments]


def _config_of_checkpoint(arguments: list[str]) -> list[str]:
    configured = any(a.split("=")[0] in ("-c", "--config", "-h", "--help") for a in arguments)
    rest, checkpoints = take(arguments, "--ckpt_path")
    if configured or not checkpoints:
        return arguments
    checkpoint = checkpoints[-1]
    config = Path(checkpoint).parent.parent / "config.yaml"
    if not config.is_file():
        raise InputError(
            f"{checkpoint} alone does not say how the model is made: add --run RUN or --config FILE"
        )
    return [f"--config={config}", f"--ckpt_path={checkpoint}", *rest]


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


def check_yaml(arguments: list[str]) -> None:
    """Find out whether the configuration files can be read.

    Raises:
        InputError: If one is missing, empty or not YAML; with its name, which the parser doesn't tell.
    """
    _, long = take(arguments, "--config")
    _, short = take(arguments, "-c")
    for path in (*long, *short):
        try:
            tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: is not a text file in UTF-8") from error
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise InputError(f"{path}{line}: is not YAML: {error.problem}") from error
        if not isinstance(tree, dict):
            raise InputError(f"{path}: holds no configuration; see examples/ for one")
