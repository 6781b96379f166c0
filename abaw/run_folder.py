"""What a training makes of its run's folder: its own alone, with its own configuration and checkpoints."""

import os
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, Final

import yaml
from lightning.pytorch.cli import SaveConfigCallback

from abaw.callbacks import RunCheckpoint, SlidingWindowInference
from abaw.errors import InputError
from abaw.files import replacing
from abaw.folder_lock import LockingCallback
from abaw.postprocess import POSTPROCESS_FILE

START: Final = ("config", "ckpt_path", "weights", "run", "trust")
"""Where to start from is no part of what a run is."""
ASIDE: Final = ".replaced"
"""What the names of an earlier training's checkpoints end in, until the new one's configuration is there."""


class RunConfig(SaveConfigCallback, LockingCallback):
    """Writes ``config.yaml`` into the run's folder when training starts, and at no other time.

    An earlier training's checkpoints go then, as they don't belong to the new configuration. Until training
    starts, whatever is wrong leaves an earlier run as it was.
    """

    def locked_folder(self, trainer: Any, stage: str) -> Path | None:
        """The run's folder, in ``fit``."""
        return Path(trainer.default_root_dir) if stage == "fit" and not trainer.fast_dev_run else None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Lock the folder; nothing is saved yet."""
        try:
            LockingCallback.setup(self, trainer, pl_module, stage)
        except InputError:
            if trainer.is_global_zero:
                for logger in trainer.loggers:  # has made a folder for its first line already
                    with suppress(OSError):
                        Path(logger.log_dir or "").rmdir()
            raise

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Save the configuration, and have the checkpoints that are there be its own."""
        if trainer.is_global_zero and not trainer.fast_dev_run:
            own = [c for c in trainer.checkpoint_callbacks if isinstance(c, RunCheckpoint)]
            folders = {Path(str(callback.dirpath)) for callback in own}
            resumed = trainer.ckpt_path and Path(trainer.ckpt_path).resolve()
            owners = (*folders, Path(trainer.default_root_dir))
            if not (resumed and any(resumed.is_relative_to(owner.resolve()) for owner in owners)):
                self._replace_run(trainer, pl_module, folders)
            else:
                self.save_config(trainer, pl_module, "fit")
        trainer.strategy.barrier("run's folder ready")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Drop what was tuned for the scores of other weights: it must not decide on those to come."""
        if trainer.is_global_zero and not trainer.fast_dev_run:
            (Path(trainer.default_root_dir) / POSTPROCESS_FILE).unlink(missing_ok=True)

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Write what every command understands: the arguments of ``fit`` alone are left out."""
        path = Path(trainer.default_root_dir) / self.config_filename
        kept = self.config.clone()
        for key in START:
            kept.pop(key, None)
        # What Lightning's finders have found, if they were asked.
        kept.model.lr = getattr(pl_module, "lr", kept.model.lr)
        data = kept.data.get("init_args", {})
        if "batch_size" in data:
            data.batch_size = getattr(trainer.datamodule, "batch_size", data.batch_size)
        with replacing(path) as partial:
            text = _with_unlinked(kept, self.parser.dump(kept, skip_none=False, skip_validation=True))
            partial.write_text(text, encoding="utf-8")

    def _replace_run(self, trainer: Any, pl_module: Any, folders: set[Path]) -> None:
        # Killed in between, the old weights never stand beside the new configuration, nor are they lost as
        # long as the old one is there.
        checkpoints = [folder / name for folder in sorted(folders) for name in ("last.ckpt", "best.ckpt")]
        for path in checkpoints:
            if path.is_file():
                os.replace(path, f"{path}{ASIDE}")
        self.save_config(trainer, pl_module, "fit")
        for path in checkpoints:
            Path(f"{path}{ASIDE}").unlink(missing_ok=True)


def _with_unlinked(config: Any, text: str) -> str:
    """Add to a written configuration what follows from most data, where these don't say it."""
    defaults = signature(SlidingWindowInference).parameters
    follows = {
        "inference": {key: defaults[key].default for key in ("window", "frame_step")},
        "predictions": {"template": None},
    }
    said = config.data.get("init_args", {})
    missing = {
        part: {key: config[part].get(key, default) for key, default in values.items() if key not in said}
        for part, values in follows.items()
    }
    if not any(missing.values()):
        return text
    tree = yaml.safe_load(text)
    for part, values in missing.items():
        tree[part].update(values)
    return str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
