import math
import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from aff_wild2_files import HEADER, Corpus

from abaw.data import AffWild2DataModule, FeatureDataModule
from abaw.data.feature_datamodule import feature_sizes
from abaw.data.features import FeatureHeader, read_header, write_features, write_index
from abaw.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*videos have:UserWarning")
OPTIONS = {"window": 8, "batch_size": 4, "num_workers": 0}


def write_folder(module: AffWild2DataModule, folder: Path, **changes) -> None:
    """Features that say which frame of which video they are of, in the place of an encoder's."""
    for number, (video, target) in enumerate(zip(module.videos, module.targets, strict=True)):
        count = len(target)
        frame = torch.arange(count)
        header = FeatureHeader(
            video_id=video.video_id,
            raw_id=video.raw_id,
            split=video.split,
            class_names=HEADER.split(","),
            num_frames=count,
            lead=0.5,
            encoders={"visual": {"weights": "12ab"}, "audio": {"weights": "34cd"}},
            settings={"window": 8},
        )
        features = {
            "visual": torch.stack([torch.full((count,), number), frame, frame], dim=1).float(),
            "audio": torch.ones(count, 2),
            "video_mask": frame >= 0,
            "audio_mask": frame >= 0,
            "target": torch.from_numpy(target),
            "time": frame / 25,
        }
        write_features(folder / f"{video.video_id}.safetensors", replace(header, **changes), features)
    write_index(folder, [video.video_id for video in module.videos])


@pytest.fixture
def live(small_corpus: Corpus) -> AffWild2DataModule:
    """The corpus itself, with a test video."""
    small_corpus.add_raw("new_vids/t.mp4", num_frames=10)
    rows = [f"t/{row + 1:05d}.jpg," for row in range(10)]
    template = small_corpus.root / "Expression_test_set_sample.txt"
    template.write_text("\n".join([f"image_location,{HEADER}", *rows]))
    module = AffWild2DataModule(small_corpus.root, **OPTIONS)
    module.setup()
    return module


@pytest.fixture
def folder(live: AffWild2DataModule, tmp_path: Path) -> Path:
    folder = tmp_path / "features"
    write_folder(live, folder)
    shutil.copy(live.template_path, folder)
    return folder


def ready(root: Path, **arguments) -> FeatureDataModule:
    module = FeatureDataModule(root, **OPTIONS | arguments)
    module.setup()
    return module


def windows(loader, epochs: int = 2) -> list[tuple[str, list[int], list[int]]]:
    found = []
    for epoch in range(epochs):
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
        for batch in loader:
            found += zip(batch["video_id"], batch["frame"].tolist(), batch["target"].tolist(), strict=True)
    return found


def test_says_of_the_corpus_what_the_corpus_says(live: AffWild2DataModule, folder: Path):
    module = FeatureDataModule(folder)
    assert module.class_names == live.class_names
    assert module.num_classes == 8
    assert module.template_path == folder / "Expression_test_set_sample.txt"
    assert torch.equal(module.class_counts, live.class_counts)
    assert feature_sizes(folder) == {"visual": 3, "audio": 2}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"seed": 3, "stride": 5},
        {"balanced": True, "batch_size": 3},
        {"frame_step": 3},
        {"frame_rate": 12.5},
        {"folds": 3, "fold": 1},
        {"folds": 2, "fold": 0, "balanced": True, "seed": 1, "num_workers": 1},
    ],
)
def test_draws_the_windows_that_the_corpus_draws(live: AffWild2DataModule, folder: Path, arguments: dict):
    corpus = AffWild2DataModule(live.root, **OPTIONS | arguments)
    corpus.setup()
    module = ready(folder, **arguments)
    drawn = windows(module.train_dataloader())
    assert drawn == windows(corpus.train_dataloader())
    assert len(drawn) > 10
    for loader in ("val_dataloader", "test_dataloader", "predict_dataloader"):
        chunks = windows(getattr(module, loader)(), epochs=1)
        assert chunks == windows(getattr(corpus, loader)(), epochs=1)


def test_batches_hold_the_features_of_their_frames(live: AffWild2DataModule, folder: Path):
    names = [video.video_id for video in live.videos]
    for batch in ready(folder, frame_step=2).train_dataloader():
        assert not {"video", "audio"} & batch.keys()
        for name, frames, visual in zip(
            batch["video_id"], batch["frame"], batch["visual_features"], strict=True
        ):
            exists = frames >= 0
            assert (visual[exists, 0] == names.index(name)).all()
            assert torch.equal(visual[exists, 1].long(), frames[exists])
            assert not visual[~exists].any()


def test_the_clock_of_chunks_is_the_videos(folder: Path):
    times: dict[str, list[float]] = {}
    for batch in ready(folder).val_dataloader():
        start = np.array(batch["audio_start"])[:, None]
        exists = batch["frame"] >= 0
        times.setdefault(batch["video_id"][0], []).extend((start + batch["time"].numpy())[exists].tolist())
    assert {name: len(time) for name, time in times.items()} == {"c": 27, "d": 50}
    for time in times.values():
        np.testing.assert_allclose(time, np.arange(len(time)) / 25, atol=1e-6)


@pytest.mark.slow
def test_works_where_processes_are_not_forked(folder: Path):
    loader = ready(folder, num_workers=1).train_dataloader()
    loader.multiprocessing_context = multiprocessing.get_context("spawn")
    expected = list(ready(folder).train_dataloader())
    for one, other in zip(expected, loader, strict=True):
        assert torch.equal(one["visual_features"], other["visual_features"])


def test_a_folder_that_is_not_complete_is_refused(folder: Path):
    (folder / "b_left.safetensors").unlink()
    module = FeatureDataModule(folder)
    for use in (module.setup, lambda: module.class_names, lambda: feature_sizes(folder)):
        with pytest.raises(InputError, match=r"1 of 6 videos are missing \(first: b_left\)"):
            use()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"settings": {"window": 9}}, "settings.window is 9, not 8"),
        ({"encoders": {"visual": {"weights": "12ab"}}}, "encoders.audio.weights is None, not 34cd"),
        ({"class_names": ["A", "B"]}, r"class_names is \['A', 'B'\], not \['Neutral'"),
    ],
)
def test_files_made_in_several_ways_are_refused(
    live: AffWild2DataModule, folder: Path, tmp_path: Path, changes: dict, words: str
):
    write_folder(live, tmp_path / "other", **changes)
    shutil.copy(tmp_path / "other" / "c.safetensors", folder)
    with pytest.raises(InputError, match=rf"c\.safetensors: {words}.* as in a\.safetensors; remove one"):
        ready(folder)


def test_a_checkpoint_knows_whose_features_it_was_trained_on(
    live: AffWild2DataModule, folder: Path, tmp_path: Path
):
    state = ready(folder).state_dict()
    ready(folder).load_state_dict(state)
    encoders = read_header(folder / "a.safetensors").encoders
    write_folder(live, tmp_path / "other", encoders=encoders | {"audio": {"weights": "56ef"}})
    with pytest.raises(InputError, match=r"other: encoders.audio.weights is 56ef, not 34cd as where"):
        ready(tmp_path / "other").load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"fold": 3}, "fold is 3, but folds is not set"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: dict, message: str):
    with pytest.raises(InputError, match=message):
        FeatureDataModule(tmp_path, **arguments)


def test_what_is_not_there_is_told(live: AffWild2DataModule, tmp_path: Path):
    with pytest.raises(InputError, match="nowhere: is no folder of features"):
        FeatureDataModule(tmp_path / "nowhere").setup()
    live._videos, live._recordings = live._videos[:3], live._recordings[:3]
    write_folder(live, tmp_path / "part")
    module = ready(tmp_path / "part")
    assert math.isfinite(next(iter(module.train_dataloader()))["time"].sum())
    with pytest.raises(InputError, match=r"holds no validation video; extract .* or set folds"):
        module.val_dataloader()
    with pytest.raises(InputError, match=r"holds no test video; extract .* test list or a template"):
        module.predict_dataloader()
