"""Pretrained networks from the hub or a folder, or random ones of the same build, through transformers."""

import os
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from abaw.encoders.no_code import check_config, check_overrides
from abaw.errors import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

DType = Literal["float32", "bfloat16", "float16"]
"""The types that weights can be kept in."""


def load_config(
    model_name: str, pretrained: bool, overrides: dict[str, Any] | None, **forced: Any
) -> "PretrainedConfig":
    """Read a network's configuration.

    Args:
        model_name: a name on the hub or a local folder; not looked at if ``overrides`` has a ``model_type``.
        pretrained: whether weights will be loaded.
        overrides: entries to change. With ``pretrained=False`` a ``model_type`` such as ``"beit"`` makes them
            change that type's defaults instead, and no file is needed.
        **forced: entries set last, whether the type has them or not.

    Returns:
        The configuration.

    Raises:
        InputError: it cannot be had, or an override is not one of its entries.
    """
    from transformers import AutoConfig

    check_overrides(overrides)
    entries = dict(overrides or {})
    model_type = entries.pop("model_type", None)
    if pretrained and model_type is not None:
        raise InputError(
            f"config_overrides: model_type needs pretrained=False; the checkpoint {model_name!r} has its own"
        )
    with _one_line_errors(model_name):
        if model_type is None:
            config: PretrainedConfig
            config, unknown = AutoConfig.from_pretrained(
                model_name, return_unused_kwargs=True, trust_remote_code=False, **entries
            )
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
    check_config(model_name, config)
    return config


def load_model(model_name: str, config: "PretrainedConfig", pretrained: bool, dtype: DType) -> nn.Module:
    """Build a network, with the checkpoint's weights or with random ones.

    Args:
        model_name: a name on the hub or a local folder.
        config: what :func:`load_config` returned.
        pretrained: whether to load weights.
        dtype: what the weights are kept in, whatever the checkpoint's own type.

    Returns:
        The network. Attention is PyTorch's fused one where transformers has it for this type, else eager.

    Raises:
        InputError: the checkpoint cannot be had, or its weights are not all of this network's.
    """
    from transformers import AutoModel

    with _one_line_errors(model_name):
        if not pretrained:
            model: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
                config, dtype=getattr(torch, dtype), trust_remote_code=False
            )
            return model
        model, report = AutoModel.from_pretrained(
            model_name,
            config=config,
            trust_remote_code=False,
            dtype=getattr(torch, dtype),
            ignore_mismatched_sizes=True,  # told below, in one line
            output_loading_info=True,
        )
    # Poolers are not used here, and masked-image checkpoints come without.
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    mismatched = sorted(key for key, *_ in report["mismatched_keys"])
    if missing or mismatched:
        raise InputError(
            f"{model_name!r}: {len(missing)} weights of its {config.model_type} network are missing and "
            f"{len(mismatched)} have another size ({(missing + mismatched)[0]} first); "
            "mend the checkpoint, or change config_overrides with pretrained=False alone"
        )
    return model


def load_preprocessor(
    model_name: str, pretrained: bool, overrides: dict[str, Any] | None, kind: Literal["image", "audio"]
) -> dict[str, Any]:
    """Read how a checkpoint's inputs are normalised: ``preprocessor_config.json``.

    Args:
        model_name: a name on the hub or a local folder.
        pretrained: whether weights are loaded; a checkpoint without the file is then warned of.
        overrides: where they have a ``model_type``, no file belongs to the network.
        kind: which section counts where one file describes several modalities.

    Returns:
        The file's entries, empty where there is none.
    """
    from transformers.feature_extraction_utils import FeatureExtractionMixin
    from transformers.image_processing_base import ImageProcessingMixin

    if "model_type" in (overrides or {}):
        return {}
    # These read the file alone; building the processor would want torchvision.
    read = {
        "image": ImageProcessingMixin.get_image_processor_dict,
        "audio": FeatureExtractionMixin.get_feature_extractor_dict,
    }[kind]
    try:
        entries: dict[str, Any] = read(model_name)[0]
    except OSError:
        if pretrained:
            warnings.warn(
                f"{model_name!r} has no preprocessor_config.json: its kind's usual normalisation is assumed",
                stacklevel=2,
            )
        return {}
    return entries


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
        _keep_position_indices(model)
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
        hidden: Tensor = self.model(inputs.to(next(self.parameters()).dtype)).last_hidden_state
        return hidden


def _keep_position_indices(model: nn.Module) -> None:
    """Keep BEiT's relative positions beside its weights.

    transformers makes them on the host: each layer of each call would wait for the device, to copy them.
    """
    for module in model.modules():
        if hasattr(module, "generate_relative_position_index"):
            index = module.generate_relative_position_index(module.window_size)  # type: ignore[operator]
            module.register_buffer("position_index", index, persistent=False)
            kept: Any = MethodType(generate_relative_position_index, module)
            module.generate_relative_position_index = kept


def generate_relative_position_index(self: nn.Module, window_size: tuple[int, int]) -> Tensor:
    """Take the place of transformers' function of this name; crops are always of the network's own size."""
    return cast(Tensor, self.position_index)


@contextmanager
def _one_line_errors(model_name: str) -> Iterator[None]:
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError, StrictDataclassError, SafetensorError) as error:
        looks_local = model_name.startswith((".", "/", "~")) or model_name.count("/") > 1
        if looks_local and not os.path.isdir(model_name):
            reason = "there is no such folder."
        else:
            reason = textwrap.shorten(str(error), width=200, placeholder=" …")
        raise InputError(
            f"cannot load the encoder {model_name!r}: {reason} Give a folder with config.json and weights, "
            "a hub name that can be reached, or pretrained=False and config_overrides with a model_type"
        ) from error
