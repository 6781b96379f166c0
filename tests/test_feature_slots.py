"""Which features may stand for the encoders of a checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch

from abaw import EXPRESSIONS, ExpressionModule
from abaw.data import FeatureDataModule
from abaw.data.features import FeatureHeader, write_features, write_index
from abaw.encoders import PrecomputedEncoder
from abaw.errors import InputError
from abaw.feature_slots import check_features_of
from abaw.fingerprint import fingerprint
from abaw.fusion import ConcatFusion

WEIGHTS = {"visual_encoder.a": torch.ones(2)}
MADE_WITH: dict[str, Any] = {"model_name": "m", "pooling": "mean", "micro_batch": 4, "freeze": True}
READ_WITH = {"window": 64, "frame_step": 1, "image_size": 112, "audio_context": 0.5}


@pytest.fixture
def data(tmp_path: Path) -> FeatureDataModule:
    made_by = {
        "class_path": "abaw.encoders.HFVisualEncoder",
        "init_args": MADE_WITH,
        "provenance": {},
        "weights": fingerprint(WEIGHTS, "visual_encoder."),
    }
    header = FeatureHeader(
        "v", "v", "train", list(EXPRESSIONS), 1, 0.5, {"visual": made_by}, READ_WITH | {"dtype": "float32"}
    )
    present = torch.ones(1, dtype=torch.bool)
    tensors = {"visual": torch.ones(1, 2), "video_mask": present, "audio_mask": ~present}
    times = {"target": torch.zeros(1, dtype=torch.int64), "time": torch.zeros(1, dtype=torch.float64)}
    write_features(tmp_path / "v.safetensors", header, tensors | times)
    write_index(tmp_path, ["v"])
    return FeatureDataModule(tmp_path)


def check(data: FeatureDataModule, encoder: dict[str, Any], reading: dict[str, Any]) -> None:
    asked = {"class_path": "abaw.encoders.HFVisualEncoder", "init_args": MADE_WITH} | encoder
    checkpoint = {
        "state_dict": WEIGHTS,
        "hyper_parameters": {"visual_encoder": asked, "audio_encoder": None},
        "datamodule_hyper_parameters": READ_WITH | reading,
    }
    model = ExpressionModule(PrecomputedEncoder(2), None, ConcatFusion(2, 1, 8))
    check_features_of(checkpoint, model, data)


@pytest.mark.parametrize(
    ("encoder", "reading"),
    [
        ({}, {}),
        ({"init_args": MADE_WITH | {"micro_batch": 9, "freeze": False}}, {}),
        ({"init_args": {"model_name": "m"}}, {"batch_size": 3}),
    ],
)
def test_what_does_not_change_features_may_differ(
    data: FeatureDataModule, encoder: dict[str, Any], reading: dict[str, Any]
) -> None:
    check(data, encoder, reading)


@pytest.mark.parametrize(
    ("encoder", "reading", "words"),
    [
        ({"init_args": MADE_WITH | {"pooling": "cls"}}, {}, "visual.init_args.pooling is mean, not cls"),
        ({"class_path": "other.Encoder"}, {}, "visual.class_path is .*HFVisualEncoder, not other.Encoder"),
        ({}, {"window": 32}, "settings.window is 64, not 32"),
        ({}, {"frame_step": 2}, "settings.frame_step is 1, not 2"),
        ({}, {"audio_context": 1.0}, "settings.audio_context is 0.5, not 1.0"),
    ],
)
def test_features_that_the_model_would_not_have_seen_are_refused(
    data: FeatureDataModule, encoder: dict[str, Any], reading: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=f"{words} as where the model was trained"):
        check(data, encoder, reading)
