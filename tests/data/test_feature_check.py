"""A folder of features is read whole, or refused in a line that names the file."""

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from abaw.data import FeatureDataModule
from abaw.data.feature_datamodule import feature_sizes
from abaw.data.features import FeatureHeader, read_header, write_features, write_index
from abaw.errors import InputError

FRAMES = 12
NAMES = {"a": "train", "b": "validation", "c": "test"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "features"
    for name, split in NAMES.items():
        header = FeatureHeader(
            video_id=name,
            raw_id=name,
            split=split,
            class_names=["Neutral", "Anger"],
            num_frames=FRAMES,
            lead=0.5,
            encoders={"visual": {"weights": "12ab"}, "audio": {"weights": "34cd"}},
            settings={"window": 4},
        )
        frame = torch.arange(FRAMES)
        tensors = {
            "visual": torch.ones(FRAMES, 3),
            "audio": torch.ones(FRAMES, 2),
            "video_mask": frame != 1,
            "audio_mask": frame != 2,
            "target": frame % 3 - 1,
            "time": frame.double() / 25,
        }
        write_features(folder / f"{name}.safetensors", header, tensors)
    write_index(folder, list(NAMES))
    return folder


def rewrite(path: Path, header: dict[str, Any] | None = None, **tensors: torch.Tensor | None) -> None:
    """Change what a file holds, behind the back of `write_features`."""
    entries = {"version": 1, **asdict(read_header(path)), **(header or {})}
    kept = {
        name: tensor.clone() for name, tensor in (load_file(path) | tensors).items() if tensor is not None
    }
    save_file(kept, path, {"abaw": json.dumps(entries)})


def use(folder: Path) -> int:
    """Do all that commands do with a folder; how many batches there are."""
    data = FeatureDataModule(folder, window=4, batch_size=2, num_workers=0)
    assert data.class_names == ("Neutral", "Anger")
    assert feature_sizes(folder) == {"visual": 3, "audio": 2}
    data.setup()
    assert data.class_counts.sum() > 0
    loaders = (data.train_dataloader(), data.val_dataloader(), data.predict_dataloader())
    return sum(1 for loader in loaders for _ in loader)


def test_the_folder_is_right(folder: Path):
    assert use(folder) >= 3


@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"visual": torch.ones(FRAMES - 1, 3)}, "visual is of 11 frames, its header of 12"),
        ({"audio": torch.ones(FRAMES + 1, 2)}, "audio is of 13 frames, its header of 12"),
        ({"video_mask": torch.ones(FRAMES - 4, dtype=torch.bool)}, "video_mask is of 8 frames"),
        ({"target": torch.zeros(0, dtype=torch.int64)}, "target is of 0 frames"),
        ({"visual": None}, "holds no visual"),
        ({"audio_mask": None}, "holds no audio_mask"),
        ({"target": None}, "holds no target"),
        ({"time": None}, "holds no time"),
        ({"visual": torch.ones(FRAMES)}, r"visual has the shape \(12,\)"),
        ({"visual": torch.ones(FRAMES, 0)}, r"visual has the shape \(12, 0\)"),
        ({"visual": torch.ones(FRAMES, 3, dtype=torch.int64)}, "visual is I64, not F16"),
        ({"video_mask": torch.ones(FRAMES)}, "video_mask is F32, not BOOL"),
        ({"target": torch.zeros(FRAMES)}, "target is F32, not I64"),
        ({"target": torch.full((FRAMES,), 2)}, "a label is none of its 2 classes"),
        ({"target": torch.full((FRAMES,), -2)}, "a label is none of its 2 classes"),
        ({"time": torch.full((FRAMES,), torch.nan, dtype=torch.float64)}, "a time is not finite"),
        ({"visual": torch.full((FRAMES, 3), torch.nan)}, "its visual features are not finite"),
        ({"audio": torch.full((FRAMES, 2), torch.inf)}, "its audio features are not finite"),
    ],
)
def test_tensors_that_are_not_what_the_header_says_are_refused(
    folder: Path, name: str, tensors: dict[str, torch.Tensor | None], words: str
):
    rewrite(folder / f"{name}.safetensors", **tensors)
    with pytest.raises(
        InputError, match=rf"{name}\.safetensors: {words}.*; remove it and run 'abaw extract'"
    ):
        use(folder)


def test_what_an_absent_frame_holds_is_not_looked_at(folder: Path):
    visual = torch.ones(FRAMES, 3)
    visual[1] = torch.nan
    rewrite(folder / "a.safetensors", visual=visual)
    assert use(folder) >= 3


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"video_id": "z"}, "holds the features of z; name it so"),
        ({"video_id": 1}, "video_id can't be right"),
        ({"raw_id": None}, "raw_id can't be right"),
        ({"split": "dev"}, "split can't be right"),
        ({"split": []}, "split can't be right"),
        ({"class_names": 5}, "class_names can't be right"),
        ({"class_names": [1]}, "class_names can't be right"),
        ({"class_names": []}, "class_names can't be right"),
        ({"num_frames": "12"}, "num_frames can't be right"),
        ({"num_frames": -1}, "num_frames can't be right"),
        ({"num_frames": True}, "num_frames can't be right"),
        ({"num_frames": 10**30}, "of 12 frames, its header of 10000"),
        ({"lead": "x"}, "lead can't be right"),
        ({"lead": float("nan")}, "lead can't be right"),
        ({"encoders": []}, "encoders can't be right"),
        ({"encoders": {"visual": 1}}, "encoders can't be right"),
        ({"encoders": {"smell": {}}}, "encoders can't be right"),
        ({"settings": 3}, "settings can't be right"),
        ({"sources": [1]}, "sources can't be right"),
        ({"version": [1]}, "another version of abaw"),
    ],
)
def test_a_header_that_cannot_be_is_refused(folder: Path, header: dict[str, Any], words: str):
    rewrite(folder / "b.safetensors", header)
    with pytest.raises(InputError, match=rf"b\.safetensors: .*{words}.*"):
        use(folder)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "{", "[" * 100_000, '{"version": 1}', "\\u0000"])
def test_a_header_that_is_none_is_refused(folder: Path, text: str):
    path = folder / "b.safetensors"
    save_file({name: tensor.clone() for name, tensor in load_file(path).items()}, path, {"abaw": text})
    with pytest.raises(InputError, match=r"b\.safetensors: is damaged, or holds no features; remove it"):
        use(folder)


def test_features_of_two_sizes_or_types_are_refused(folder: Path):
    for features in (torch.ones(FRAMES, 4), torch.ones(FRAMES, 3).half()):
        rewrite(folder / "c.safetensors", visual=features)
        with pytest.raises(InputError, match=r"c\.safetensors: its features are .* as in a\.safetensors"):
            use(folder)


@pytest.mark.parametrize(
    "index",
    [
        [],
        3,
        None,
        {"videos": 3},
        {"videos": {"a": 1}},
        {"videos": ["a", None]},
        {"videos": ["a", ""]},
        {"videos": ["a", "a"]},
        {"videos": ["a"], "labels": 3},
        {"videos": ["a"], "labels": {"a": 3}},
        {"videos": ["a"], "trained_on": ["a"]},
        {"videos": ["a"], "trained_on": {"a": "x"}},
    ],
)
def test_an_index_that_cannot_be_is_refused(folder: Path, index: Any):
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"features(/index\.json)?: .* 'abaw extract'"):
        use(folder)


def test_damaged_bytes_end_in_a_result_or_in_a_line(folder: Path):
    draw = random.Random(0)
    for name in ("a.safetensors", "index.json"):
        whole = (folder / name).read_bytes()
        head = len(whole) - 12 * (3 * 4 + 2 * 4 + 1 + 1 + 8 + 8) if name != "index.json" else len(whole)
        refused = 0
        for _ in range(150):
            damaged = bytearray(whole)
            for _ in range(draw.choice((1, 3))):
                damaged[draw.randrange(head)] = draw.choice(
                    (0, 34, 48, 57, 91, 123, 255, draw.randrange(256))
                )
            (folder / name).write_bytes(damaged[: draw.choice((len(whole), draw.randrange(len(whole))))])
            try:
                use(folder)
            except InputError as error:
                refused += str(folder) in str(error)
            except AssertionError:  # other classes, or sizes, and consistent
                pass
        assert refused > 75
        (folder / name).write_bytes(whole)
