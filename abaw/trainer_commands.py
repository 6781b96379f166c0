"""The commands that need a Trainer: from what a user types to a command line that has run."""

from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule

from abaw.arguments import expand_run, local_path, take
from abaw.callbacks import StopOnSignal
from abaw.callbacks.stop import exit_status, stopping_at_once
from abaw.checkpoint_file import read_checkpoint
from abaw.config_parser import ConfigParser
from abaw.ensemble import predict_average
from abaw.errors import InputError
from abaw.files import expand
from abaw.given import read_given
from abaw.lightning_cli import ExpressionCLI
from abaw.module import ExpressionModule
from abaw.quiet import quieten
from abaw.run_folder import RunConfig
from abaw.trainer import ExpressionTrainer


def run(command: str, arguments: list[str]) -> int:
    """Run one of LightningCLI's commands; ``predict`` with several runs averages them.

    Returns:
        The exit status: 0, or 128 and the number of the signal that has stopped it.

    Raises:
        InputError: If something the user gave is wrong.
    """
    rest, runs = take(arguments, "--run")
    runs = [local_path("--run", run) for run in runs]
    try:
        with stopping_at_once():
            if command == "predict" and len(runs) > 1:
                _predict_average(rest, runs)
            else:
                _start(command, arguments)
    except SystemExit as stop:
        status = exit_status(stop)
        if status is None:
            raise
        return status
    return 0


def _predict_average(arguments: list[str], runs: list[str]) -> None:
    for option in ("--ckpt_path", "--weights"):
        if take(arguments, option)[1]:
            raise InputError(f"{option} would be taken for each of the runs: give a single --run")
    rest, folders = take(arguments, "--predictions.output_dir")
    rest, postprocess = take(rest, "--inference.postprocess")
    if not folders:
        raise InputError("say where the average of the runs goes: --predictions.output_dir DIR")
    trust = [f"--trust={package}" for package in take(arguments, "--trust")[1]]
    classes = [_classes_of(folder, trust) for folder in runs]
    for folder, names in zip(runs, classes, strict=True):
        if names != classes[0]:
            raise InputError(
                f"{folder} was trained on the classes {','.join(names)}, but {runs[0]} on "
                f"{','.join(classes[0])}: average runs of the same classes"
            )

    def predict(run: str, output: Path) -> ExpressionCLI:
        return _start("predict", [f"--run={run}", *rest, f"--predictions.output_dir={output}"])

    output = expand(folders[-1])
    decided_by = str(expand(postprocess[-1])) if postprocess else None
    predict_average(runs, output, predict, decided_by)


def _classes_of(run_folder: str, trust: list[str]) -> list[str]:
    _, checkpoints = take(expand_run("predict", [f"--run={run_folder}", *trust]), "--ckpt_path")
    names: list[str] = read_checkpoint(checkpoints[0])["hyper_parameters"]["class_names"]
    return names


def _start(command: str, arguments: list[str]) -> ExpressionCLI:
    quieten()
    arguments = expand_run(command, arguments)
    given = read_given(arguments)
    # Told by the parser as exceptions, so that one line of ours can say it.
    told = {"exit_on_error": False, "allow_abbrev": False}
    try:
        return ExpressionCLI(
            given,
            ExpressionModule,
            LightningDataModule,
            subclass_mode_data=True,
            trainer_class=ExpressionTrainer,
            args=[command, *arguments],
            save_config_callback=RunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_defaults={"default_root_dir": "runs/abaw", "callbacks": [StopOnSignal()]},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_class=ConfigParser,
            parser_kwargs={**told, **{name: dict(told) for name in ExpressionCLI.subcommands()}},
        )
    except MisconfigurationException as error:
        raise InputError(" ".join(str(error).split())) from error
    except RuntimeError as error:
        if not str(error).startswith("Error(s) in loading state_dict"):
            raise
        problem = " ".join(str(error).split()[:40])
        raise InputError(f"the checkpoint does not fit the configured model: {problem} …") from error
