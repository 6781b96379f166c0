"""Pretrained audio encoders: WavLM and the other raw-sound networks of transformers."""

from itertools import accumulate
from math import prod
from operator import mul
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from abaw.encoders.hf_loading import (
    Backbone,
    DType,
    architecture_of,
    load_config,
    load_model,
    load_preprocessor,
)
from abaw.encoders.hf_source import find_source
from abaw.encoders.sound import SAMPLE_RATE, SoundEncoder
from abaw.errors import InputError


class HFAudioEncoder(SoundEncoder):
    """A raw-sound network of transformers: WavLM (Chen et al. 2021, arXiv 2110.13900), wav2vec 2.0 or HuBERT.

    The network's own frames, one every 20 ms for all of these, are centred on what their convolutions see
    and interpolated to the frames' times. Sound is brought to zero mean and unit variance, clip by clip, if
    the checkpoint's ``preprocessor_config.json`` says so; where there is none, if the convolutions use layer
    norm. Layer drop and SpecAugment are off: both leave parameters without a gradient, which DDP does not
    forgive.

    Args:
        model_name: a name on the hub or a local folder.
        freeze: keep the network as it is: no gradients, evaluation mode always.
        pretrained: load the checkpoint's weights; else they are random.
        config_overrides: entries of transformers' configuration to change. With ``pretrained=False`` and a
            ``model_type`` among them, ``model_name`` is not looked at and no file is needed.
        dtype: what the weights are kept in; the half types are for frozen networks.
        revision: which commit, branch or tag of the hub's is taken; ``None`` means what the name stands for
            today. A run keeps what it was trained with, either way.

    Raises:
        InputError: the network cannot be loaded, an override is not one of its entries, or it does not take
            raw sound at 16 kHz.

    Example:
        >>> tiny = {"model_type": "wavlm", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        ...         "intermediate_size": 8, "conv_dim": [8] * 7, "num_conv_pos_embedding_groups": 2}
        >>> encoder = HFAudioEncoder(pretrained=False, config_overrides=tiny)
        >>> time = torch.tensor([[0.5, 0.54, 0.58]])
        >>> encoder(torch.zeros(1, 16000), time, torch.ones(1, 3, dtype=torch.bool)).shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        model_name: str = "microsoft/wavlm-large",
        freeze: bool = True,
        pretrained: bool = True,
        config_overrides: dict[str, Any] | None = None,
        dtype: DType = "float32",
        revision: str | None = None,
    ) -> None:
        source = find_source(model_name, config_overrides, revision)
        config = load_config(
            source,
            pretrained,
            layerdrop=0.0,
            apply_spec_augment=False,
            mask_time_prob=0.0,
            mask_feature_prob=0.0,
            add_adapter=False,  # it would change the spacing
        )
        if not hasattr(config, "conv_stride"):
            raise InputError(
                f"a {config.model_type} network takes no raw sound: "
                "set model_name to a WavLM, wav2vec 2.0 or HuBERT"
            )
        processor = load_preprocessor(source, pretrained, "audio")
        if (rate := processor.get("sampling_rate", SAMPLE_RATE)) != SAMPLE_RATE:
            raise InputError(f"{model_name!r} wants sound at {rate} Hz, this library has {SAMPLE_RATE} Hz")
        # Kernel i widens what one feature sees by (k - 1) times the product of the strides before it.
        spacings = accumulate(config.conv_stride[:-1], mul, initial=1)
        span = 1 + sum((kernel - 1) * step for kernel, step in zip(config.conv_kernel, spacings, strict=True))
        super().__init__(config.hidden_size, span=span, stride=prod(config.conv_stride))
        self._architecture = architecture_of(source, config, processor)
        model = load_model(source, config, pretrained, dtype)
        self.backbone = Backbone(model, freeze, example=torch.zeros(1, SAMPLE_RATE))
        self.normalise = bool(
            processor.get("do_normalize", getattr(config, "feat_extract_norm", "layer") == "layer")
        )

    def provenance(self) -> dict[str, Any]:
        """The checkpoint, its revision on the hub, and how sound is prepared for it."""
        return self.backbone.provenance() | {"normalise": self.normalise}

    def architecture(self) -> dict[str, Any]:
        """The network's configuration and how sound is prepared for it; nothing where no file said it."""
        return self._architecture

    def encode_sound(self, audio: Tensor) -> Tensor:
        """Encode float32 (B, S) into (B, K, D)."""
        if self.normalise:
            audio = F.layer_norm(audio.float(), audio.shape[1:], eps=1e-7)
        features: Tensor = self.backbone(audio)
        return features
