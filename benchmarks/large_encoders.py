"""The paper's encoders with random weights: nothing is downloaded, and the cost is the real one."""

import json
from pathlib import Path
from typing import Any

BEIT_LARGE = {
    "model_type": "beit",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "image_size": 224,
    "use_relative_position_bias": True,
}
WAVLM_LARGE = {
    "model_type": "wavlm",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TINY_BEIT = BEIT_LARGE | _TINY | {"image_size": 32}
TINY_WAVLM = (
    WAVLM_LARGE
    | _TINY
    | {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
)

VISUAL = "microsoft/beit-large-patch16-224-pt22k"
AUDIO = "microsoft/wavlm-large"


def write_checkpoint(folder: Path, config: dict[str, Any]) -> None:
    """Write a random network as `from_pretrained` reads it.

    In a working directory that has such a folder under a hub's name, that name is the folder: the code that
    loads pretrained weights runs as it stands.

    Args:
        folder: Where to.
        config: Entries of transformers' configuration, ``model_type`` among them.
    """
    from transformers import AutoConfig, AutoModel

    entries = dict(config)
    network = AutoModel.from_config(AutoConfig.for_model(entries.pop("model_type"), **entries))
    network.save_pretrained(folder)
    # As the checkpoints of these names have it.
    prepared: dict[str, Any] = {"do_normalize": True}
    if "image_size" in config:
        size = {"height": config["image_size"], "width": config["image_size"]}
        prepared |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": size}
    else:
        prepared |= {"sampling_rate": 16000}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
