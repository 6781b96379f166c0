"""Pretrained visual encoders: BEiT and every other image network of transformers."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from abaw.encoders.frames import FrameEncoder
from abaw.encoders.hf_loading import (
    Backbone,
    DType,
    architecture_of,
    load_config,
    load_model,
    load_preprocessor,
)
from abaw.encoders.hf_pictures import prepared_size, scaling, settle_size
from abaw.encoders.hf_source import find_source
from abaw.encoders.kept import keeps_nothing
from abaw.errors import InputError
from abaw.ranges import MOST_IN_BATCH, MOST_PIXELS, check_count


class HFVisualEncoder(FrameEncoder):
    """An image network of transformers, such as BEiT (Bao et al. 2021, arXiv 2106.08254), one crop at a time.

    Crops are resized on the device (bicubic, antialiased), and scaled and normalised, as the checkpoint's
    ``preprocessor_config.json`` says; where there is none, to the configuration's size, with mean and
    deviation 0.5, as BEiT's. Where the network was made for another size, its positions are
    interpolated as transformers does it. Networks that mask patches at random, such as ViT-MAE, see all of
    them. The pooled output passes a layer norm without parameters: masked-image checkpoints such as BEiT's
    keep their last norm outside of the network, whose raw output has any scale.

    Args:
        model_name: a name on the hub or a local folder.
        freeze: keep the network as it is: no gradients, evaluation mode always.
        pretrained: load the checkpoint's weights; else they are random.
        config_overrides: entries of transformers' configuration to change. With ``pretrained=False`` and a
            ``model_type`` among them, ``model_name`` is not looked at and no file is needed.
        pooling: ``"mean"`` of the patch tokens or the ``"cls"`` token. Maps of convolutional networks are
            averaged over their places, whichever is said.
        micro_batch: how many frames go through the network at once.
        dtype: what the weights are kept in; the half types are for frozen networks.
        image_size: height and width that crops are resized to; ``None`` means the size that the checkpoint's
            preprocessor gives them, or the network's own where it takes no other.
        revision: which commit, branch or tag of the hub's is taken; ``None`` means what the name stands for
            today. A run keeps what it was trained with, either way.

    Raises:
        InputError: the network cannot be loaded, an override is not one of its entries, it takes no images,
            or none of that size.

    Example:
        >>> tiny = {"model_type": "beit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        ...         "intermediate_size": 8, "image_size": 32}
        >>> encoder = HFVisualEncoder(pretrained=False, config_overrides=tiny)
        >>> video = torch.zeros(1, 2, 3, 112, 112, dtype=torch.uint8)
        >>> encoder(video, torch.tensor([[True, False]])).shape
        torch.Size([1, 2, 8])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model_name: str = "microsoft/beit-large-patch16-224-pt22k",
        freeze: bool = True,
        pretrained: bool = True,
        config_overrides: dict[str, Any] | None = None,
        pooling: Literal["mean", "cls"] = "mean",
        micro_batch: int = 32,
        dtype: DType = "float32",
        image_size: int | None = None,
        revision: str | None = None,
    ) -> None:
        check_count(1, MOST_PIXELS, image_size=image_size)
        check_count(1, MOST_IN_BATCH, micro_batch=micro_batch)
        source = find_source(model_name, config_overrides, revision)
        whole = load_config(source, pretrained)
        config: Any = getattr(
            whole, "vision_config", whole
        )  # of two towers, such as CLIP's, the one that sees
        processor = load_preprocessor(source, pretrained, "image")
        sizes = getattr(config, "hidden_sizes", None) or [getattr(config, "hidden_size", None)]
        if sizes[-1] is None:
            raise InputError(
                f"a {config.model_type} network does not say how large its features are: "
                "set model_name to one with hidden_size or hidden_sizes in its config.json"
            )
        super().__init__(out_features=sizes[-1], micro_batch=micro_batch)
        self.pooling = pooling
        self._architecture = architecture_of(source, whole, processor)
        model = load_model(source, config, pretrained, dtype)
        if model.main_input_name != "pixel_values":
            raise InputError(
                f"a {config.model_type} network takes no images: set model_name to one that does"
            )
        # Checkpoints of before the preprocessor was asked were trained at the configuration's size; so are
        # those that were trained on from one, which keep it.
        prepared = None if keeps_nothing() else prepared_size(processor)
        if source.kept is not None:
            prepared = source.kept.get("image_size", prepared)
        self.image_size = settle_size(model, image_size, prepared)
        if self._architecture:
            self._architecture["image_size"] = self.image_size
        self.backbone = Backbone(model, freeze, example=torch.zeros(1, 3, self.image_size, self.image_size))
        self.divisor, mean, std = scaling(processor)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def provenance(self) -> dict[str, Any]:
        """The checkpoint, its revision on the hub, and how crops are prepared for it."""
        prepared: dict[str, Any] = {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}
        if self.divisor != 255:
            prepared["divisor"] = self.divisor
        return self.backbone.provenance() | {"image_size": self.image_size} | prepared

    def architecture(self) -> dict[str, Any]:
        """The network's configuration and how crops are prepared for it; nothing where no file said it."""
        return self._architecture

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encode crops of any size, uint8 (M, 3, H, W), into (M, D).

        Raises:
            ValueError: ``pooling`` is ``"cls"`` and the network has no such token.
        """
        pixels = frames.float()
        size = (self.image_size, self.image_size)
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 255)
        pixels = (pixels / self.divisor - self.mean) / self.std
        return F.layer_norm(self._pool(self.backbone(pixels)).float(), (self.out_features,), eps=1e-12)

    def _pool(self, hidden: Tensor) -> Tensor:
        if hidden.ndim == 4:
            return hidden.mean(dim=(2, 3))
        # The input is square: what the largest square leaves over is tokens that are no patch and come first.
        extra = hidden.shape[1] - math.isqrt(hidden.shape[1]) ** 2
        if self.pooling == "mean":
            return hidden[:, extra:].mean(dim=1)
        if not extra:
            raise ValueError('this network has no cls token: use pooling="mean"')
        return hidden[:, 0]
