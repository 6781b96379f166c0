"""Tiny checkpoints on disk, as ``save_pretrained`` writes them."""

import json
from pathlib import Path

import pytest
import torch

BEIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
    "use_mask_token": True,
    "use_shared_relative_position_bias": True,
    "drop_path_rate": 0.5,
    "hidden_dropout_prob": 0.5,
}
WAVLM = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.5,
    "layerdrop": 0.9,
    "mask_time_prob": 0.5,
}


@pytest.fixture
def beit() -> dict[str, object]:
    return {"model_type": "beit", **BEIT}


@pytest.fixture
def wavlm() -> dict[str, object]:
    return {"model_type": "wavlm", **WAVLM}


@pytest.fixture(scope="session")
def beit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BeitConfig, BeitModel

    folder = tmp_path_factory.mktemp("beit")
    torch.manual_seed(1)
    # As in masked-image checkpoints, the pooler's norm is not there; half precision, as many on the hub.
    BeitModel(BeitConfig(**BEIT), add_pooling_layer=False).half().save_pretrained(folder)
    preprocessor = {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


@pytest.fixture(scope="session")
def wavlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import WavLMConfig, WavLMModel

    folder = tmp_path_factory.mktemp("wavlm")
    torch.manual_seed(2)
    WavLMModel(WavLMConfig(**WAVLM)).save_pretrained(folder)
    preprocessor = {"do_normalize": True, "sampling_rate": 16000}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder
