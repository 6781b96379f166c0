"""The folder of a run, for those who have no command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from abaw.checkpoint_file import data_state, read_checkpoint
from abaw.encoders import PrecomputedEncoder
from abaw.errors import InputError
from abaw.module import ExpressionModule
from abaw.postprocess import POSTPROCESS_FILE, Postprocessing
from abaw.yaml_files import read_yaml

_READING = ("window", "frame_step", "frame_rate", "image_size", "audio_context", "batch_size")
_HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_VOTING = ("stride", "weighting", "average")


@dataclass(frozen=True)
class TrainedRun:
    """A trained model, and the settings that belong to it.

    Attributes:
        model: The module of the best checkpoint, on the CPU.
        reading: How videos are read, arguments of `abaw.data.single.open_video`.
        voting: How windows vote, arguments of :class:`abaw.engine.WindowVoter`.
        half: What it is computed in under autocast; ``None`` for full precision.
        postprocessing: What ``abaw tune`` has chosen; ``None`` where it was not run.
    """

    model: ExpressionModule
    reading: dict[str, Any]
    voting: dict[str, Any]
    half: torch.dtype | None
    postprocessing: Postprocessing | None

    @classmethod
    def load(cls, folder: Path, trust: Sequence[str] = ()) -> "TrainedRun":
        """Read the folder of a run of ``abaw fit``.

        Args:
            folder: The folder.
            trust: Packages whose classes its checkpoint may name, beside abaw's.

        Raises:
            InputError: A file is missing or damaged, the checkpoint names code that is not trusted, or the
                model was trained on features and sees no video.
        """
        config_file, checkpoint = folder / "config.yaml", folder / "checkpoints" / "best.ckpt"
        for path in (config_file, checkpoint):
            if not path.is_file():
                raise InputError(f"{path}: no such file; give the folder of a run that 'abaw fit' has ended.")
        config = read_yaml(config_file)
        try:
            data, inference = config["data"].get("init_args", config["data"]), config["inference"]
            # Data that are none of ours need not say it.
            voting = {key: data[key] if key in data else inference[key] for key in ("window", "frame_step")}
            voting |= {key: inference[key] for key in _VOTING}
            half = _HALF.get(config["trainer"]["precision"])
        except (LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{config_file}: is no configuration of a run; train again. ({error})"
            ) from error
        state = read_checkpoint(checkpoint)
        model = ExpressionModule.load_from_checkpoint(
            checkpoint, map_location="cpu", weights_only=True, trust=trust
        )
        if any(isinstance(e, PrecomputedEncoder) for e in (model.visual_encoder, model.audio_encoder)):
            raise InputError(
                f"{folder}: the model was trained on features and can't see a video; 'abaw extract' and "
                "'abaw predict' instead."
            )
        kept = data_state(state)
        reading = {"clip_samples": kept.get("clip_samples", 0), "trained_rate": kept.get("frame_rate")}
        reading |= {key: data[key] for key in _READING if key in data}
        tuned = folder / POSTPROCESS_FILE
        postprocessing = Postprocessing.read(tuned, model.class_names) if tuned.is_file() else None
        return cls(model, reading, voting, half, postprocessing)
