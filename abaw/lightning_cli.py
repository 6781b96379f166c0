"""LightningCLI with our parts wired in: ``abaw fit``, ``test``, and all that needs a Trainer."""

import inspect
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_warn

# Imported whole so that a YAML file may name their classes without a path.
import abaw.data.datamodule
import abaw.data.feature_datamodule
import abaw.encoders
import abaw.fusion
import abaw.losses
from abaw.arguments import local_path
from abaw.callbacks import (
    PredictionWriter,
    RunCheckpoint,
    SlidingWindowInference,
    TestReport,
)
from abaw.checkpoint_file import read_checkpoint
from abaw.class_counts import class_counts_for, class_names_of
from abaw.encoders.kept import encoders_of
from abaw.errors import InputError
from abaw.feature_slots import check_features_of, size_precomputed_encoders
from abaw.given import SECTIONS, Given
from abaw.module import ExpressionModule
from abaw.monitors import check_monitors
from abaw.parse_errors import explain, explain_constructor
from abaw.sizes import feature_size
from abaw.trained_on import TRAINED_ON
from abaw.trainer import ExpressionTrainer
from abaw.trees import flatten
from abaw.trust import run_again

# The callbacks that every run has, by section of the configuration.
_CALLBACKS = {
    "inference": SlidingWindowInference,
    "checkpoint": RunCheckpoint,
    "report": TestReport,
    "predictions": PredictionWriter,
}
# What Lightning and the callbacks take for files; the data modules see to their own.
_PATHS = (
    "ckpt_path",
    "weights",
    "trainer.default_root_dir",
    "checkpoint.dirpath",
    "report.output_dir",
    "predictions.output_dir",
    "inference.postprocess",
    "output_dir",
)


class ExpressionCLI(LightningCLI):
    """The command line: slots by class name, sizes typed once, one folder a run.

    Args:
        given: Where the user gave what.
        *args: As for LightningCLI.
        **kwargs: As for LightningCLI.
    """

    def __init__(self, given: Given, *args: Any, **kwargs: Any) -> None:
        self.given = given
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks that every run has, and say which values follow from which."""
        parser.add_argument(
            "--run",
            type=str | None,
            default=None,
            help="The folder of a run: its configuration and its best checkpoint (fit: its last one).",
        )
        parser.add_argument(
            "--weights",
            type=str | None,
            default=None,
            help="Start from a checkpoint's weights, nothing else of it.",
        )
        parser.add_argument(
            "--trust",
            type=str | None,
            default=None,
            metavar="PACKAGE",
            help="A package whose classes a run may name beside abaw's and Lightning's; repeatable.",
        )
        for section, callback in _CALLBACKS.items():
            parser.add_lightning_class_args(callback, section)
        parser.set_defaults({"data": {"class_path": "AffWild2DataModule"}})
        parser.link_arguments("data.init_args.window", "inference.window")
        parser.link_arguments("data.init_args.frame_step", "inference.frame_step")
        parser.link_arguments("data.init_args.template", "predictions.template")
        parser.link_arguments("data", "model.class_names", compute_fn=class_names_of, apply_on="instantiate")
        head = "model.fusion.init_args"
        parser.link_arguments("data", f"{head}.num_classes", compute_fn=_num_classes, apply_on="instantiate")
        parser.link_arguments(
            "data", "model.loss.init_args.class_counts", compute_fn=self._class_counts, apply_on="instantiate"
        )
        for slot, size in {"visual_encoder": "visual_dim", "audio_encoder": "audio_dim"}.items():
            parser.link_arguments(
                f"model.{slot}", f"{head}.{size}", compute_fn=feature_size, apply_on="instantiate"
            )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and the arguments of the Trainer's methods that they settle themselves."""
        commands = LightningCLI.subcommands()
        commands |= {"tune": {"model", "datamodule"}, "robustness": {"model", "datamodule"}}
        commands["extract"] = {"model", "datamodule", "output_dir"}
        commands["test"].add("verbose")
        commands["predict"].add("return_predictions")
        return {name: {*skipped, "weights_only"} for name, skipped in commands.items()}

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "extract":
            parser.add_argument("output_dir", metavar="OUT", help="The folder to write.")
            self._subcommand_method_arguments[subcommand].append("output_dir")
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what :func:`run` made of the user's arguments."""
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            known = list(self._subcommand_parsers[args[0]].get_defaults().keys())
            raise InputError(explain(error, self.given, known)) from error

    def _parse_ckpt_path(self) -> None:
        # Lightning would let the checkpoint's hyper-parameters override what the user has typed.
        return

    def before_instantiate_classes(self) -> None:
        """Refuse what would be ignored, and a checkpoint that is not there; size precomputed encoders."""
        config = self.config[self.subcommand]
        for section in SECTIONS:
            if config.get(section) is None:
                raise InputError(f"{section} is null, but it holds options: leave it out")
        for key in _PATHS:
            if path := config.get(key):
                config[key] = local_path(f"--{key}", str(path))
        model = self._get(self.config, "model")
        size_precomputed_encoders(model, self._get(self.config, "data"))
        if model.loss is None:  # Lightning can't write the link to its class counts down where it is null
            defaults = inspect.signature(abaw.losses.FocalLoss).parameters.values()
            model.loss = Namespace(  # type: ignore[no-untyped-call]
                {
                    "class_path": "abaw.losses.FocalLoss",
                    # All of them, as the parser fills them in when the run's configuration is read again.
                    "init_args": Namespace({p.name: p.default for p in defaults}),  # type: ignore[no-untyped-call]
                }
            )
        head = model.fusion
        for size in ("visual_dim", "audio_dim", "num_classes"):
            if head.get("init_args", {}).get(size) is not None:
                raise InputError(
                    f"model.fusion.init_args.{size} follows from the encoders and the corpus: leave it out"
                )
        if model.get("loss") and model.loss.get("init_args", {}).get("class_counts") is not None:
            raise InputError(
                "model.loss.init_args.class_counts follows from the training labels: leave it out"
            )
        precision = str(self._get(self.config, "trainer").precision)
        if precision.endswith("-true") and not precision.startswith(("32", "64")):
            raise InputError(
                f"trainer.precision {precision} keeps times and losses too short of digits: take "
                f"{precision.removesuffix('-true')}-mixed; the dtype of a frozen encoder can be set by itself"
            )
        checkpoint, weights = (self._get(self.config, key) for key in ("ckpt_path", "weights"))
        if checkpoint and weights:
            raise InputError(
                f"--weights {weights} would be overwritten by --ckpt_path {checkpoint}: give one"
            )
        if self.subcommand not in ("fit", "extract") and not (checkpoint or weights):
            raise InputError(
                f"there is nothing trained to {self.subcommand}: give --run RUN or --ckpt_path FILE"
            )
        self._start_from = read_checkpoint(checkpoint or weights) if checkpoint or weights else None

    def _class_counts(self, data: LightningDataModule) -> list[int] | None:
        # What is tested or predicted with a model was settled when it was trained.
        trained = None if self.subcommand == "fit" else self._start_from
        return class_counts_for(self._get(self.config, "model").get("loss"), data, trained)

    def instantiate_classes(self) -> None:
        """Make the parts; what their constructors refuse is bad input."""
        try:
            with encoders_of(self._start_from):
                super().instantiate_classes()
        except Exception as error:
            fixed = {"model": ExpressionModule, "trainer": ExpressionTrainer, **_CALLBACKS}
            raise explain_constructor(error, self.config[self.subcommand], fixed, self.given) from error

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Log into the run's folder, each fit into a version of its own; the other commands log nothing."""
        config = self._get(self.config_init, "trainer")
        if config["logger"] is None:
            fit = self.subcommand == "fit"
            kwargs["logger"] = CSVLogger(config["default_root_dir"], name="logs") if fit else False
        return super().instantiate_trainer(**kwargs)

    def after_instantiate_classes(self) -> None:
        """Refuse a checkpoint of other classes or other features, and load ``--weights``."""
        if self._start_from is None:
            return
        trained, asked = self._start_from["hyper_parameters"]["class_names"], list(self.model.class_names)
        if trained != asked:
            start = self._get(self.config, "ckpt_path") or self._get(self.config, "weights")
            corpus = getattr(self.datamodule, "root", type(self.datamodule).__name__)
            raise InputError(
                f"{start} was trained on the classes {','.join(trained)}, but {corpus} has "
                f"{','.join(asked)}: take the corpus of its classes"
            )
        check_features_of(self._start_from, self.model, self.datamodule)
        if TRAINED_ON not in self._start_from and self.subcommand not in ("predict", "extract"):
            self._refuse_other_folds(self._start_from.get("datamodule_hyper_parameters", {}))
        if self._get(self.config, "weights"):
            self.model.remember(self._start_from)
            state: dict[str, Any] = self._start_from["state_dict"]
            # A warm start starts the ramp of modality dropout anew.
            self.model.load_state_dict({k: v for k, v in state.items() if k != "modality_dropout.step"})

    def _refuse_other_folds(self, trained: Any) -> None:
        """Older checkpoints don't say which videos they were trained on, but how these were split."""
        asked = self.datamodule.hparams
        same_corpus = Path(trained.get("root", "")).resolve() == Path(asked.get("root", "")).resolve()
        for key in ("folds", "fold"):
            before, now = trained.get(key), asked.get(key)
            if same_corpus and before != now:
                raise InputError(
                    f"the model was trained with data.{key}={before}; with data.{key}={now} "
                    "it would be scored on videos that it was trained on: leave the option out"
                )

    def before_fit(self) -> None:
        """Refuse overrides that resuming would ignore; tell of a run that is about to be replaced."""
        check_monitors(self.trainer.callbacks, self.model.class_names, self.given)  # type: ignore[attr-defined]
        path = self._get(self.config, "ckpt_path")
        if path is None or self._start_from is None:
            folder = Path(self.trainer.default_root_dir)
            queued_again = SLURMEnvironment.detect() and any(folder.glob("hpc_ckpt_*.ckpt"))
            if (folder / "checkpoints" / "last.ckpt").is_file() and not queued_again:
                rank_zero_warn(
                    f"{folder} holds a run already. Its checkpoints are replaced; test/, predictions/ "
                    "and robustness/ there, if any, are the old model's. (To resume it: --run instead.)"
                )
            return
        self._leave_out_finders()
        trained = flatten(self._start_from["hyper_parameters"])
        asked = flatten(dict(self.model.hparams))
        for key in sorted(trained.keys() | asked.keys()):
            if trained.get(key) != asked.get(key):
                raise InputError(
                    f"{path} was trained with model.{key}={trained.get(key)} and resumes with it; "
                    f"model.{key}={asked.get(key)} would be ignored: leave it out, or start warm with "
                    f"--weights {path}"
                )

        self._tell_if_finished(self._start_from)

    def _leave_out_finders(self) -> None:
        """What they have found is in the run's configuration; and they would lose the resumed state."""
        finders = (BatchSizeFinder, LearningRateFinder)
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [callback for callback in callbacks if not isinstance(callback, finders)]

    def _tell_if_finished(self, checkpoint: dict[str, Any]) -> None:
        """Lightning ends at once where nothing is left to train; say what to do."""
        limits = self._get(self.config, "trainer")
        steps, epochs = checkpoint["global_step"], _epochs_of(checkpoint)
        if limits.max_epochs not in (None, -1) and epochs >= limits.max_epochs:
            reached, option, more = f"{epochs} epochs", "max_epochs", epochs + 10
        elif limits.max_steps != -1 and steps >= limits.max_steps:
            reached, option, more = f"{steps} steps", "max_steps", 2 * steps
        else:
            return
        print(f"Training has ended: {reached} are done. To go on, raise it: --trainer.{option} {more}")

    def after_fit(self) -> None:
        """Say what there is now."""
        best = next(c for c in self.trainer.checkpoint_callbacks if isinstance(c, RunCheckpoint))
        if self.trainer.is_global_zero and best.best_model_score is not None:
            print(f"Best {best.monitor}: {float(best.best_model_score):.3f}, {best.best_model_path}")
            print(f"Next: {run_again('test', self.trainer, self.model)}")

    def before_extract(self) -> None:
        """Warn of encoders that nothing has trained: a frozen one has its weights from elsewhere."""
        slots = {"visual": self.model.visual_encoder, "audio": self.model.audio_encoder}
        trainable = [
            slot
            for slot, e in slots.items()
            if e is not None and any(p.requires_grad for p in e.parameters())
        ]
        if self._start_from is None and trainable:
            rank_zero_warn(
                f"no checkpoint is given: the weights of the {' and the '.join(trainable)} encoder are those "
                "it starts with. Give --run RUN for trained ones, or freeze it."
            )

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        settled = {"test": {"verbose": False}, "predict": {"return_predictions": False}}
        # The report is the one table of a test; features of every batch would pile up in a prediction.
        return kwargs | {"weights_only": True} | settled.get(subcommand, {})


def _num_classes(data: LightningDataModule) -> int:
    return len(class_names_of(data))


def _epochs_of(checkpoint: dict[str, Any]) -> int:
    """How many epochs a checkpoint's training has ended."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
