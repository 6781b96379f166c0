"""Pretrained networks from the hub or a folder, or random ones of the same build, through transformers."""

import json
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from abaw.encoders.hf_pictures import interpolating
from abaw.encoders.hf_positions import keep_positions
from abaw.encoders.hf_sizes import check_sizes
from abaw.encoders.hf_source import Source, commit_of, refusal
from abaw.encoders.no_code import check_config, check_overrides
from abaw.errors import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

DType = Literal["float32", "bfloat16", "float16"]
"""The types that weights can be kept in."""


def load_config(source: Source, pretrained: bool, **forced: Any) -> "PretrainedConfig":
    """Read a network's configuration.

    Args:
        source: where from. With ``pretrained=False`` a ``model_type`` such as ``"beit"`` among its overrides
            makes them change that type's defaults, and no file is needed.
        pretrained: whether weights will be loaded.
        **forced: entries set last, whether the type has them or not.

    Returns:
        The configuration.

    Raises:
        InputError: it cannot be had, or an override is not one of its entries.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    check_overrides(source.overrides)
    check_sizes(source.overrides)
    entries = dict(source.overrides)
    model_type = entries.pop("model_type", None)
    if pretrained and model_type is not None:
        raise InputError(
            f"config_overrides: model_type needs pretrained=False; the checkpoint {source.name!r} has its own"
        )
    config: PretrainedConfig
    unknown: Any = ()
    with _one_line_errors(source):
        if source.kept is not None:
            told = dict(source.kept["config"])
            if (kind := told["model_type"]) not in CONFIG_MAPPING:
                raise ValueError(f"this transformers has no {kind!r} networks; install a later one")
            config = CONFIG_MAPPING[kind].from_dict(told)
            config.name_or_path = source.kept["name"]
            config._commit_hash = source.kept["revision"]
        elif model_type is None:
            config, unknown = AutoConfig.from_pretrained(
                source.name,
                return_unused_kwargs=True,
                local_files_only=source.here_only,
                revision=source.revision,
                trust_remote_code=False,
                **entries,
            )
            config._commit_hash = commit_of(source)  # no longer said by transformers itself
        else:
            defaults = AutoConfig.for_model(model_type)
            unknown = [key for key in entries if not hasattr(defaults, key)]
            config = AutoConfig.for_model(model_type, **entries)
    if unknown:
        raise InputError(
            f"config_overrides: {', '.join(map(repr, unknown))} is no entry of transformers' "
            f"{type(config).__name__}; look for a typo"
        )
    for key, value in forced.items():
        setattr(config, key, value)
    check_config(source.name, config)
    check_sizes(config.to_dict())
    return config


def load_model(source: Source, config: "PretrainedConfig", pretrained: bool, dtype: DType) -> nn.Module:
    """Build a network, with the checkpoint's weights or with random ones.

    Args:
        source: where from; of what a checkpoint of this library keeps, the weights are loaded later.
        config: what :func:`load_config` returned, or the part of it that is to be built.
        pretrained: whether to load weights.
        dtype: what the weights are kept in, whatever the checkpoint's own type.

    Returns:
        The network. Attention is PyTorch's fused one where transformers has it for this type, else eager.

    Raises:
        InputError: the checkpoint cannot be had, or its weights are not all of this network's.
    """
    from transformers import AutoModel

    with _one_line_errors(source):
        if not pretrained or source.kept is not None:
            model: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
                config, dtype=getattr(torch, dtype), trust_remote_code=False
            )
            return model
        model, report = AutoModel.from_pretrained(
            source.name,
            config=config,
            trust_remote_code=False,
            dtype=getattr(torch, dtype),
            local_files_only=source.here_only,
            revision=source.revision,
            ignore_mismatched_sizes=True,  # told below, in one line
            output_loading_info=True,
        )
    # Poolers are not used here, and masked-image checkpoints come without.
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    mismatched = sorted(key for key, *_ in report["mismatched_keys"])
    if missing or mismatched:
        raise InputError(
            f"{source.name!r}: {len(missing)} weights of its {config.model_type} network are missing and "
            f"{len(mismatched)} have another size ({(missing + mismatched)[0]} first); "
            "mend the checkpoint, or change config_overrides with pretrained=False alone"
        )
    return model


def load_preprocessor(source: Source, pretrained: bool, kind: Literal["image", "audio"]) -> dict[str, Any]:
    """Read how a checkpoint's inputs are normalised: ``preprocessor_config.json``.

    Args:
        source: where from; where it has a ``model_type``, no file belongs to the network.
        pretrained: whether weights are loaded; a checkpoint without the file is then warned of.
        kind: which section counts where one file describes several modalities.

    Returns:
        The file's entries, empty where there is none.
    """
    from transformers.feature_extraction_utils import FeatureExtractionMixin
    from transformers.image_processing_base import ImageProcessingMixin

    if source.kept is not None:
        return dict(source.kept["preprocessor"])
    if "model_type" in source.overrides:
        return {}
    # These read the file alone; building the processor would want torchvision.
    read = {
        "image": ImageProcessingMixin.get_image_processor_dict,
        "audio": FeatureExtractionMixin.get_feature_extractor_dict,
    }[kind]
    try:
        entries: dict[str, Any] = read(
            source.name, local_files_only=source.here_only, revision=source.revision
        )[0]
    except OSError:
        if pretrained:
            warnings.warn(
                f"{source.name!r} has no preprocessor_config.json: its kind's usual normalisation is assumed",
                stacklevel=2,
            )
        return {}
    return entries


def architecture_of(
    source: Source, config: "PretrainedConfig", preprocessor: Mapping[str, Any]
) -> dict[str, Any]:
    """What a checkpoint keeps of a network, as plain data; nothing where no file was read for it."""
    if "model_type" in source.overrides:
        return {}
    return {
        "made_from": dict(source.made_from),
        "config": json.loads(config.to_json_string(use_diff=False)),
        "preprocessor": dict(preprocessor),
        "name": config.name_or_path,
        "revision": getattr(config, "_commit_hash", None),
    }


class Backbone(nn.Module):
    """A network of transformers that gives its last hidden state, frozen or trainable.

    A frozen one stays in evaluation mode. In a trainable one the parameters that the last hidden state does
    not depend on (a pooler, a mask token) are frozen: under DDP a parameter without a gradient is an error.

    Args:
        model: the network.
        freeze: whether to keep it as it is.
        example: an input of one sample.
    """

    def __init__(self, model: nn.Module, freeze: bool, example: Tensor) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(not freeze)
        self._arguments = interpolating(model) if _is_of_another_size(model, example) else {}
        keep_positions(model, example)
        _see_all_patches(model)
        self.freeze = freeze
        if not freeze:
            parameters = list(model.parameters())
            with torch.enable_grad():
                gradients = torch.autograd.grad(self(example).sum(), parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.requires_grad_(gradient is not None)
        self.train()

    def provenance(self) -> dict[str, Any]:
        """Name and revision of the checkpoint; no revision where it came from a folder or is random."""
        config: Any = self.model.config
        return {"model_name": config.name_or_path, "revision": getattr(config, "_commit_hash", None)}

    def train(self, mode: bool = True) -> "Backbone":
        """Switch to training mode, if trainable."""
        return super().train(mode and not self.freeze)

    def forward(self, inputs: Tensor) -> Tensor:
        """Run the network in its weights' own type."""
        inputs = inputs.to(next(self.parameters()).dtype)
        hidden: Tensor = self.model(inputs, **self._arguments).last_hidden_state
        return hidden


def _is_of_another_size(model: nn.Module, example: Tensor) -> bool:
    own = getattr(model.config, "image_size", None)
    own = tuple(own) if isinstance(own, list | tuple) else (own, own)
    return example.ndim == 4 and own != (None, None) and own != example.shape[2:]


def _see_all_patches(model: nn.Module) -> None:
    """Let ViT-MAE keep its patches, all of them and in their order: it hides most of them at random, always.

    A ``mask_ratio`` of 0 would still shuffle them, and so draw, and change the last digits.
    """
    for module in model.modules():
        if model.config.model_type == "vit_mae" and hasattr(module, "random_masking"):  # type: ignore[union-attr]
            kept: Any = keep_all_patches
            module.random_masking = kept


def keep_all_patches(sequence: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Take the place of transformers' function of this name: patches, what is masked, the way back."""
    order = torch.arange(sequence.shape[1], device=sequence.device).expand(sequence.shape[:2])
    return sequence, sequence.new_zeros(sequence.shape[:2]), order


@contextmanager
def _one_line_errors(source: Source) -> Iterator[None]:
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError, StrictDataclassError, SafetensorError) as error:
        if source.is_out_of_reach:
            reason = (
                "there is no folder of that name, and of the hub, which can't be reached, not all of its "
                "files are in the cache"
            )
        else:
            reason = textwrap.shorten(str(error), width=200, placeholder=" …").rstrip(".")
        raise refusal(source.name, reason) from error
