import hashlib
import json
import os
import pickle
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from abaw.data.features import (
    FeatureHeader,
    FeatureReader,
    FeatureRecording,
    read_header,
    read_index,
    write_features,
    write_index,
)
from abaw.errors import InputError

HEADER = FeatureHeader(
    video_id="v_left",
    raw_id="v",
    split="train",
    class_names=["Neutral", "Anger"],
    num_frames=20,
    lead=0.5,
    encoders={"visual": {"class_path": "a.B", "init_args": {"depth": 2}, "weights": "ab12"}},
    settings={"window": 8, "dtype": "float16"},
)


def tensors(num_frames: int = 20, dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    """Everything says which frame it is of; every third frame has no face, every fifth no voice."""
    frame = torch.arange(num_frames)
    face, voice = frame % 3 > 0, frame % 5 > 0
    return {
        "visual": (frame[:, None] * torch.tensor([1, 2, 3]) * face[:, None]).to(dtype),
        "audio": (frame[:, None] * torch.tensor([10, 20]) * voice[:, None]).to(dtype),
        "video_mask": face,
        "audio_mask": voice,
        "target": frame % 4 - 1,
        "time": 7 + frame.double() / 25,
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "v_left.safetensors"
    write_features(path, HEADER, tensors())
    return path


def test_files_are_found_however_their_names_letters_are_composed(tmp_path: Path):
    names = [unicodedata.normalize(form, f"é{form}") for form in ("NFC", "NFD")]
    for name in names:
        other = unicodedata.normalize("NFD" if name.endswith("NFC") else "NFC", name)
        write_features(tmp_path / f"{other}.safetensors", HEADER, tensors())
    write_index(tmp_path, names)
    assert [read_header(path).video_id for path in read_index(tmp_path)] == ["v_left"] * 2


def test_a_folder_that_is_no_utf8_is_refused(tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    with pytest.raises(InputError, match=r"caf\\udce9: is not UTF-8; rename the folder"):
        read_index(folder)


def test_what_is_written_is_read(path: Path):
    assert read_header(path) == HEADER
    recording = FeatureRecording(path)
    assert recording.video_id == "v_left"
    assert len(recording) == 20
    for name, tensor in tensors().items():
        assert recording.tensors[name].dtype == tensor.dtype
        assert torch.equal(recording.tensors[name], tensor)
    np.testing.assert_array_equal(recording.target, np.arange(20) % 4 - 1)
    with safe_open(path, "pt") as file:  # anyone's reader finds them too
        assert torch.equal(file.get_tensor("visual"), tensors()["visual"])


def test_the_same_features_are_the_same_bytes(tmp_path: Path):
    digests = set()
    for number in range(8):
        settings = dict(sorted(HEADER.settings.items(), reverse=bool(number % 2)))
        write_features(tmp_path / str(number), replace(HEADER, settings=settings), tensors())
        digests.add(hashlib.sha256((tmp_path / str(number)).read_bytes()).hexdigest())
    assert len(digests) == 1
    assert len(list(tmp_path.iterdir())) == 8, "nothing else is left behind"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"lead": 0.25, "video_id": "w"}, None),
        ({"split": "test"}, "split is train, not test"),
        ({"settings": {"window": 8, "dtype": "float32"}}, "settings.dtype is float16, not float32"),
        ({"settings": {"dtype": "float16"}}, "settings.window is 8, not None"),
        ({"encoders": {}}, "encoders.visual.class_path is a.B, not None"),
        (
            {"encoders": {"visual": HEADER.encoders["visual"] | {"init_args": {"depth": 3}}}},
            "encoders.visual.init_args.depth is 2, not 3",
        ),
    ],
)
def test_a_difference_is_told(changes: dict, words: str | None):
    assert HEADER.difference(replace(HEADER, **changes), "split", "encoders", "settings") == words


def test_files_that_are_no_features_are_refused(path: Path):
    whole = path.read_bytes()
    for damaged in (b"", whole[:7], whole[:300], whole[:-1], b"{}" * 40):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"v_left\.safetensors: is damaged, or holds no feat.*; remove"):
            FeatureRecording(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="holds no features"):
        read_header(path)
    with pytest.raises(InputError, match="holds no features"):
        read_header(path.with_name("nowhere.safetensors"))
    save_file({"a": torch.zeros(1)}, path, {"abaw": json.dumps({"version": 99})})
    with pytest.raises(InputError, match="another version of abaw; extract the features again"):
        read_header(path)


def test_the_index_says_when_a_folder_is_complete(path: Path):
    folder = path.parent
    with pytest.raises(InputError, match="is no folder of features; 'abaw extract' writes one"):
        read_index(folder)
    write_index(folder, ["z", "v_left", "a"])
    with pytest.raises(InputError, match=r"2 of 3 videos are missing \(first: z, a\); run .* again"):
        read_index(folder)
    for name in ("a", "z"):
        write_features(folder / f"{name}.safetensors", HEADER, tensors())
    assert [path.stem for path in read_index(folder)] == ["z", "v_left", "a"]
    for names in ([], ["../v"], [1]):
        (folder / "index.json").write_text(json.dumps({"version": 1, "videos": names}))
        with pytest.raises(InputError, match="names no videos"):
            read_index(folder)
    (folder / "index.json").write_text("[]")
    with pytest.raises(InputError, match="is no folder of features"):
        read_index(folder)


@pytest.mark.parametrize(
    "frames", [range(8), range(12, 20), range(3, 4), range(1, 20, 3), [18, 19, -1, -1], [19, -1]]
)
def test_a_window_holds_what_the_files_say_of_its_frames(path: Path, frames):
    recording = FeatureRecording(path)
    sample = FeatureReader(recording).read(recording, np.array(frames))
    frames, all_of = list(frames), tensors()
    expected = {
        "visual_features": [all_of["visual"][f].tolist() if f >= 0 else [0, 0, 0] for f in frames],
        "audio_features": [all_of["audio"][f].tolist() if f >= 0 else [0, 0] for f in frames],
        "video_mask": [f >= 0 and f % 3 > 0 for f in frames],
        "audio_mask": [f >= 0 and f % 5 > 0 for f in frames],
        "target": [f % 4 - 1 if f >= 0 else -1 for f in frames],
        "frame": frames,
    }
    for name, values in expected.items():
        assert sample[name].tolist() == values, name
    # The first frame is `lead` seconds after the clip's start, as if there were a clip.
    clock = [0.5 + (f - frames[0]) / 25 if f >= 0 else 0 for f in frames]
    assert sample["time"].tolist() == pytest.approx(clock, abs=1e-6)
    assert sample["audio_start"] == pytest.approx(7 + frames[0] / 25 - 0.5)
    assert (sample["video_id"], sample["num_frames"]) == ("v_left", 20)
    assert sample["visual_features"].dtype == torch.float16
    assert sample["time"].dtype == torch.float32


def test_padding_is_a_window_without_frames(path: Path):
    reader = FeatureReader(FeatureRecording(path))
    read, padding = reader.read(FeatureRecording(path), np.array([0, 1])), reader.padding(2)
    assert padding.keys() == read.keys()
    for name, value in padding.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == read[name].dtype
            assert value.shape == read[name].shape
            assert not value.any() or name in ("frame", "target")
    assert padding["frame"].tolist() == padding["target"].tolist() == [-1, -1]


def test_a_modality_that_was_not_encoded_is_not_there(tmp_path: Path):
    silent = {name: tensor for name, tensor in tensors().items() if name != "audio"}
    write_features(tmp_path / "v", HEADER, silent)
    recording = FeatureRecording(tmp_path / "v")
    assert "audio_features" not in FeatureReader(recording).read(recording, np.array([0]))


def test_files_are_mapped_and_read_no_further_than_asked_for(tmp_path: Path):
    def megabytes() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssFile:")[1].split()[0]) / 1024

    features = {
        name: torch.ones(20_000, size, dtype=torch.float16) for name, size in (("visual", 4096), ("audio", 2))
    }
    large = tensors(20_000) | features
    write_features(tmp_path / "v", replace(HEADER, num_frames=20_000), large)
    del large
    files, before = len(os.listdir("/proc/self/fd")), megabytes()
    recording = FeatureRecording(tmp_path / "v")
    reader = FeatureReader(recording)
    reader.read(recording, np.arange(10_000, 10_064))
    assert megabytes() - before < 20, "160 MB are in the file"
    assert recording.tensors["visual"].sum(dtype=torch.float64) == 20_000 * 4096
    assert megabytes() - before > 100, "the measure sees what is read"
    assert len(os.listdir("/proc/self/fd")) == files, "a mapped file is not held open"


def test_another_process_is_sent_the_path_alone(path: Path):
    recording = FeatureRecording(path)
    assert len(recording.tensors["visual"]) == 20
    sent = pickle.dumps(recording)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent).tensors["visual"], tensors()["visual"])
