import json
import shutil
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from aff_wild2_files import HEADER, Corpus, clicks, find_clicks
from jsonargparse import ArgumentParser
from lightning.pytorch.demos.boring_classes import BoringModel

from abaw.data import AffWild2DataModule, Augmentation
from abaw.data.audio import SoundTrack
from abaw.data.samplers import VideoShardSampler, WindowSampler
from abaw.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*videos have:UserWarning")


def data(corpus: Corpus, **arguments) -> AffWild2DataModule:
    return AffWild2DataModule(corpus.root, **{"window": 8, "batch_size": 4, "num_workers": 0} | arguments)


def ready(corpus: Corpus, **arguments) -> AffWild2DataModule:
    module = data(corpus, **arguments)
    module.setup()
    return module


def ids(loader) -> set[str]:
    return {video_id for batch in loader for video_id in batch["video_id"]}


def add_test_list(corpus: Corpus, rows: int | None = 11) -> None:
    (corpus.root / "Expression_test_set_release.txt").write_text("t\n")
    corpus.add_crops("t", range(9))
    corpus.add_raw("new_vids/t.mp4", num_frames=10)
    if rows:
        lines = [f"image_location,{HEADER}", *(f"t/{row + 1:05d}.jpg," for row in range(rows))]
        (corpus.root / "Expression_test_set_sample.txt").write_text("\n".join(lines))


def test_works_in_a_notebook(small_corpus: Corpus):
    module = data(small_corpus)
    assert module.class_names == tuple(HEADER.split(","))
    assert module.num_classes == 8
    with pytest.raises(RuntimeError, match="setup"):
        module.train_dataloader()
    module.setup()
    assert module.class_counts.tolist() == [8, 38, 43, 8, 8, 0, 0, 0]
    assert module.class_counts.dtype == torch.int64
    assert ids(module.train_dataloader()) == {"a", "b_left", "b_right"}
    assert ids(module.val_dataloader()) == ids(module.test_dataloader()) == {"c", "d"}


@pytest.mark.parametrize(
    "folds", [{}, {"folds": 3, "fold": 0}, {"folds": 3, "fold": 1}, {"folds": 3, "fold": 2}]
)
def test_counts_classes_from_the_labels_alone(small_corpus: Corpus, folds: dict[str, int]):
    module = data(small_corpus, **folds)
    counts = module.class_counts
    assert not (small_corpus.root / ".abaw_cache").exists()  # no sound was decoded
    module.setup()
    assert counts.tolist() == module.class_counts.tolist()
    with pytest.raises(RuntimeError, match="setup"):
        data(small_corpus).val_dataloader()


def test_counting_classes_of_no_training_video(small_corpus: Corpus):
    for path in small_corpus.root.glob("*/Train_Set/*.txt"):
        path.unlink()
    with pytest.raises(InputError, match="holds no train video; put label files into Train_Set/"):
        _ = data(small_corpus).class_counts


def test_chunks_hold_labels_and_masks_of_the_files(small_corpus: Corpus):
    small_corpus.add("e", [0, -1, -1, 3, 7] * 4, split="Validation_Set", missing=[0, 7, 18, 19])
    found: dict[str, dict[str, list]] = {}
    for batch in ready(small_corpus).val_dataloader():
        exists = batch["frame"] >= 0
        video = found.setdefault(batch["video_id"][0], {"target": [], "face": [], "voice": []})
        for key, name in {"target": "target", "face": "video_mask", "voice": "audio_mask"}.items():
            video[key] += batch[name][exists].tolist()
        assert (batch["target"][~exists] == -1).all()
    assert {name: video["target"] for name, video in found.items()} == {
        name: small_corpus.labels[name] for name in ("c", "d", "e")
    }
    assert [i for i, face in enumerate(found["e"]["face"]) if not face] == [0, 7, 18, 19]
    assert all(all(video["voice"]) for video in found.values())


def test_persons_hear_the_sound_of_their_one_raw_video(corpus: Corpus):
    corpus.add("v_left", [0] * 25, raw="batch1/v.mp4", sound=clicks(1.0, [0.5]))
    corpus.add("v_right", [1] * 20, raw="")
    corpus.add("v", [2] * 25, raw="")
    batches = ready(corpus, window=25, batch_size=1, stride=25).train_dataloader()
    heard = {}
    for batch in batches:
        (click,) = find_clicks(batch["audio"][0].numpy()) / 16_000
        heard[batch["video_id"][0]] = click + batch["audio_start"][0]
        assert batch["audio_mask"][batch["frame"] >= 0].all()
    assert heard.keys() == {"v", "v_left", "v_right"}
    assert list(heard.values()) == pytest.approx([0.5] * 3, abs=2e-3)


@pytest.mark.parametrize("raw", ["batch1/v.mp4", "batch2/v.avi", "new_vids/v.mpg", "batch1/v.mkv"])
def test_a_click_is_heard_at_the_frame_where_it_happens(corpus: Corpus, raw: str):
    frames = [5, 17, 33, 44, 58]
    start = 0.2 if not raw.endswith("avi") else 0.0
    corpus.add(
        "v",
        [0] * 60,
        raw=raw,
        sound=clicks(2.6, [frame / 25 - start for frame in frames], 44_100),
        sound_rate=44_100,
        sound_start=start,
    )
    corpus.add("slow", [0] * 30, split="Validation_Set", raw="batch1/slow.mp4", rate=15)
    module = ready(corpus, window=16, audio_context=0.1)
    seen = 0
    for epoch in range(3):
        loader = module.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            # The longest window is the one of the video of 15 frames a second.
            assert batch["audio"].shape[1] == pytest.approx((15 / 15 + 0.2) * 16_000, abs=2)
            for audio, number, time in zip(batch["audio"], batch["frame"], batch["time"], strict=True):
                for frame in set(frames) & set(number.tolist()):
                    expected = time[number == frame].item()
                    assert np.abs(find_clicks(audio.numpy()) / 16_000 - expected).min() < 1.5e-3
                    seen += 1
    assert seen > 5


def test_every_run_has_clips_of_one_length(small_corpus: Corpus):
    add_test_list(small_corpus)
    module = ready(small_corpus, frame_step=2)
    loaders = [module.train_dataloader(), module.val_dataloader(), module.predict_dataloader()]
    shapes = [{(batch["audio"].shape[1], batch["frame"].shape[1]) for batch in loader} for loader in loaders]
    (samples,) = {length for shape in shapes for length, _ in shape}
    assert samples == pytest.approx(16_000 * (15 / 25 + 1), abs=1)
    assert [{frames for _, frames in shape} for shape in shapes] == [{8}, {16}, {16}]


def test_number_of_workers_changes_no_batch(small_corpus: Corpus):
    none, two = (
        list(ready(small_corpus, num_workers=n, augmentation=Augmentation()).train_dataloader())
        for n in (0, 2)
    )
    assert len(none) == len(two) > 1
    for one, other in zip(none, two, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            same = torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
            assert same, key


@pytest.mark.parametrize("folds", [2, 3, 4])
def test_folds_part_the_corpus_by_raw_video(small_corpus: Corpus, folds: int):
    validated = []
    for fold in range(folds):
        module = ready(small_corpus, folds=folds, fold=fold)
        chosen, rest = ids(module.val_dataloader()), ids(module.train_dataloader())
        assert chosen
        assert not chosen & rest
        assert chosen | rest == {"a", "b_left", "b_right", "c", "d"}
        assert len(chosen & {"b_left", "b_right"}) != 1
        validated += sorted(chosen)
    assert sorted(validated) == ["a", "b_left", "b_right", "c", "d"]


def test_predict_serves_the_rows_of_the_template(small_corpus: Corpus):
    add_test_list(small_corpus, rows=11)
    frames = torch.cat([batch["frame"].flatten() for batch in ready(small_corpus).predict_dataloader()])
    assert frames[frames >= 0].tolist() == list(range(11))
    other = small_corpus.root / "other.txt"
    other.write_text("image_location\nt/00007.jpg,\n")
    module = ready(small_corpus, template=other)
    assert next(iter(module.predict_dataloader()))["num_frames"] == [7]


def test_predict_serves_the_decoded_frames_without_a_template(small_corpus: Corpus):
    add_test_list(small_corpus, rows=None)
    assert next(iter(ready(small_corpus).predict_dataloader()))["num_frames"] == [10] * 2


def test_predict_needs_a_list(small_corpus: Corpus):
    with pytest.raises(InputError, match=r"holds no test video.*template"):
        ready(small_corpus).predict_dataloader()


def test_test_videos_that_are_not_there_disturb_predict_alone(small_corpus: Corpus):
    (small_corpus.root / "Expression_test_set_release.txt").write_text("t\n")
    module = ready(small_corpus)
    assert ids(module.val_dataloader()) == {"c", "d"}
    with pytest.raises(InputError, match=r"1 of 1 videos have no raw video .*first: t"):
        module.predict_dataloader()
    with pytest.raises(InputError, match="how many frames t has"):
        ready(small_corpus, allow_missing_audio=True).predict_dataloader()


def test_test_videos_without_sound_are_told(small_corpus: Corpus):
    add_test_list(small_corpus)
    with (small_corpus.root / "Expression_test_set_sample.txt").open("a") as template:
        template.write("\nsilent/00004.jpg,")
    small_corpus.add_crops("silent", range(4))
    small_corpus.add_raw("new_vids/silent.mp4", num_frames=4, sound=None)
    module = ready(small_corpus)
    with pytest.warns(UserWarning, match=r"1 of 2 test videos have no sound track \(first: silent\)"):
        assert ids(module.predict_dataloader()) == {"t", "silent"}
    (small_corpus.root / "new_vids/t.mp4").unlink()
    small_corpus.add_raw("new_vids/t.mp4", num_frames=10, sound=None)
    with pytest.raises(InputError, match="none of the 2 test videos has sound; set allow_missing_audio"):
        ready(small_corpus).predict_dataloader()
    with pytest.warns(UserWarning, match="2 of 2 test videos have no sound track"):
        ready(small_corpus, allow_missing_audio=True).predict_dataloader()


def test_test_videos_of_which_there_is_nothing_are_named(small_corpus: Corpus):
    add_test_list(small_corpus)
    with (small_corpus.root / "Expression_test_set_sample.txt").open("a") as template:
        template.write("\ngone/00004.jpg,\nheard/00004.jpg,")
    small_corpus.add_raw("new_vids/heard.mp4", num_frames=4)
    module = ready(small_corpus, allow_missing_audio=True)
    with pytest.warns(UserWarning, match=r"1 of 3 test videos have neither crops nor .*first: gone\)"):
        assert ids(module.predict_dataloader()) == {"t", "gone", "heard"}


@pytest.mark.parametrize("balanced", [False, True])
def test_videos_without_any_label_are_an_error(corpus: Corpus, balanced: bool):
    corpus.add("a", [-1] * 10)
    corpus.add("c", [-1] * 10, split="Validation_Set")
    module = ready(corpus, balanced=balanced)
    with pytest.raises(InputError, match=r"corpus: no annotated frame in the training videos \(first: a\)"):
        module.train_dataloader()
    for loader in (module.val_dataloader, module.test_dataloader):
        with pytest.raises(InputError, match="corpus: no annotated frame in the validation videos"):
            loader()


def test_no_validation_video(corpus: Corpus):
    corpus.add("a", [0] * 10)
    with pytest.raises(InputError, match=r"no validation video; .*folds"):
        ready(corpus).val_dataloader()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"frame_step": 0}, "frame_step must be at least 1"),
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
        ({"audio_context": -0.1}, "audio_context must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"folds": 3, "fold": 3}, r"fold must be in 0…2"),
        ({"fold": 3}, "fold is 3, but folds is not set"),
        ({"fold": -1, "folds": 2}, "fold must be at least 0"),
        ({"frame_rate": 0.0}, "frame_rate must be at least 0.01"),
        ({"frame_rate": 30.0, "frame_step": 2}, "frame_rate 30 chooses .* frame_step is 2"),
    ],
)
def test_arguments_out_of_range(small_corpus: Corpus, arguments: dict, message: str):
    with pytest.raises(InputError, match=message):
        data(small_corpus, **arguments)


def test_more_folds_than_raw_videos(small_corpus: Corpus):
    with pytest.raises(InputError, match="folds must be at most 4"):
        ready(small_corpus, folds=5)


def test_missing_root(tmp_path: Path):
    module = AffWild2DataModule(tmp_path / "nowhere")
    for use in (lambda: module.class_names, module.prepare_data, module.setup):
        with pytest.raises(InputError, match="nowhere: no such folder"):
            use()


def test_missing_raw_video_is_an_error_unless_meant(small_corpus: Corpus):
    (small_corpus.root / "batch2/b.mp4").unlink()
    for prepare in (data(small_corpus).prepare_data, data(small_corpus).setup):
        with pytest.raises(
            InputError, match=r"2 of 5 videos have no raw video in batch1/, batch2/.*b_left, b_right"
        ):
            prepare()
    assert not (small_corpus.root / ".abaw_cache").exists(), "told before anything is decoded"
    with pytest.warns(
        UserWarning, match=r"2 of 5 annotated videos have no raw video \(first: b_left, b_right\)"
    ):
        module = ready(small_corpus, allow_missing_audio=True)
    for batch in module.train_dataloader():
        for name, voice, time in zip(batch["video_id"], batch["audio_mask"], batch["time"], strict=True):
            assert voice.any() == (name == "a")
            if name != "a":
                np.testing.assert_allclose(np.diff(time), 1 / 30, atol=1e-6)


def test_missing_sound_track_is_told(small_corpus: Corpus):
    small_corpus.add("s", [0] * 10, sound=None)
    with pytest.warns(UserWarning, match=r"1 of 6 annotated videos have no sound track \(first: s\)"):
        ready(small_corpus)


def test_no_sound_at_all_is_an_error_unless_meant(corpus: Corpus):
    corpus.add("a", [0] * 10, sound=None)
    with pytest.raises(InputError, match="none of the 1 annotated videos has sound"):
        ready(corpus)
    with pytest.warns(UserWarning, match="no sound track"):
        ready(corpus, allow_missing_audio=True)


def test_bad_label_is_told_before_anything_is_decoded(small_corpus: Corpus):
    path = small_corpus.root / small_corpus.annotations / "Train_Set/a.txt"
    path.write_text(f"{HEADER}\n0\n8\n")
    with pytest.raises(InputError, match=r"a\.txt, line 3: label 8 is outside -1…7"):
        data(small_corpus).prepare_data()
    assert not (small_corpus.root / ".abaw_cache").exists()


def test_truncated_video_is_named(small_corpus: Corpus):
    path = small_corpus.root / "batch1/a.mp4"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"a\.mp4: can't be read"):
        ready(small_corpus)


def test_cache_lies_where_it_is_said(small_corpus: Corpus, tmp_path: Path):
    data(small_corpus, cache_dir=tmp_path / "cache").prepare_data()
    assert sorted(path.name[:2] for path in (tmp_path / "cache").glob("*.wav")) == ["a-", "b-", "c-", "d-"]
    assert not (small_corpus.root / ".abaw_cache").exists()
    shutil.rmtree(small_corpus.root / "cropped_aligned_new_50_vids")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="set cache_dir"):
        data(small_corpus, cache_dir=tmp_path / "file" / "cache").prepare_data()


def test_a_tilde_is_the_home_folder(small_corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    home = small_corpus.root.parent
    monkeypatch.setenv("HOME", str(home))
    add_test_list(small_corpus)
    template = (small_corpus.root / "Expression_test_set_sample.txt").rename(home / "t.txt")
    module = AffWild2DataModule("~/corpus", cache_dir="~/cache", template="~/t.txt", crops="~/corpus")
    module.setup()
    assert (module.root, module.cache_dir, module.template_path) == (
        home / "corpus",
        home / "cache",
        template,
    )
    assert any((home / "cache").glob("*.wav"))
    assert {key: module.hparams[key] for key in ("root", "cache_dir", "template", "crops")} == {
        "root": f"{home}/corpus",
        "cache_dir": f"{home}/cache",
        "template": f"{home}/t.txt",
        "crops": [f"{home}/corpus"],
    }


class Recorder(BoringModel):
    """Writes down what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, list] = {"train": [], "val": [], "predict": []}

    def training_step(self, batch, batch_idx):
        self.given["train"].append((self.current_epoch, batch["video_id"], batch["frame"].tolist()))
        return super().training_step(torch.ones(1, 32), batch_idx)

    def validation_step(self, batch, batch_idx):
        self.given["val"] += zip(batch["video_id"], batch["frame"].tolist(), strict=True)

    def predict_step(self, batch, batch_idx):
        self.given["predict"] += zip(batch["video_id"], batch["frame"].tolist(), strict=True)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_lightning_trains_and_evaluates_with_it(small_corpus: Corpus, tmp_path: Path, num_workers: int):
    add_test_list(small_corpus)
    module = data(small_corpus, num_workers=num_workers, augmentation=Augmentation())
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    model = Recorder()
    trainer.fit(model, datamodule=module)
    assert isinstance(trainer.train_dataloader.sampler, WindowSampler)
    assert isinstance(trainer.val_dataloaders.sampler, VideoShardSampler)
    epochs = [[given[1:] for given in model.given["train"] if given[0] == epoch] for epoch in (0, 1)]
    assert len(epochs[0]) == len(epochs[1]) == 4
    assert sorted(map(json.dumps, epochs[0])) != sorted(map(json.dumps, epochs[1]))
    frames = {"c": list(range(27)), "d": list(range(50))}
    half = len(model.given["val"]) // 2
    for name, expected in frames.items():
        chunks = [chunk for video_id, chunk in model.given["val"][half:] if video_id == name]
        assert [frame for chunk in chunks for frame in chunk if frame >= 0] == expected

    trainer.predict(model, datamodule=module, return_predictions=False)
    assert sum(frame >= 0 for _, chunk in model.given["predict"] for frame in chunk) == 11

    trainer.save_checkpoint(tmp_path / "run.ckpt")
    saved = torch.load(tmp_path / "run.ckpt", weights_only=True)["datamodule_hyper_parameters"]
    assert (saved["window"], saved["audio_context"], saved["frame_step"]) == (8, 0.5, 1)
    assert saved["root"] == str(small_corpus.root)


class SaveAndStop(pl.Callback):
    """Saves in the middle of the second epoch, or at its end."""

    def __init__(self, path: Path, hook: str, batch: int) -> None:
        self.path, self.hook, self.batch = path, hook, batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if self.hook == "batch" and (trainer.current_epoch, batch_idx) == (1, self.batch):
            self._stop(trainer)

    def on_validation_end(self, trainer, module):
        if self.hook == "validation" and trainer.current_epoch == 1:
            self._stop(trainer)

    def on_train_epoch_end(self, trainer, module):
        if self.hook == "epoch" and trainer.current_epoch == 1:
            self._stop(trainer)

    def _stop(self, trainer):
        trainer.save_checkpoint(self.path)
        trainer.should_stop = True


@pytest.mark.parametrize(
    ("hook", "batch", "limit", "num_workers"),
    [
        ("batch", 0, None, 0),
        ("batch", 1, None, 1),
        ("batch", 3, None, 0),
        ("batch", 1, 3, 0),
        ("batch", 2, 3, 0),
        ("validation", 0, None, 0),
        ("validation", 0, 3, 0),
        ("epoch", 0, None, 0),
        ("epoch", 0, 3, 0),
    ],
)
def test_an_epoch_goes_on_where_it_was_saved(
    small_corpus: Corpus, tmp_path: Path, hook: str, batch: int, limit: int | None, num_workers: int
):
    def fit(model: Recorder, max_epochs: int, *callbacks: pl.Callback, **arguments) -> list:
        pl.Trainer(
            max_epochs=max_epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_train_batches=limit,
            callbacks=list(callbacks),
        ).fit(model, datamodule=data(small_corpus, num_workers=num_workers), **arguments)
        return model.given["train"]

    whole = fit(Recorder(), 3)
    saved = tmp_path / "saved.ckpt"
    before = fit(Recorder(), 3, SaveAndStop(saved, hook, batch))
    after = fit(Recorder(), 3, ckpt_path=saved, weights_only=True)
    assert len(whole) == 3 * (limit or 4)
    assert before + after == whole


# `instantiate` is its name from jsonargparse 4.49 on.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_command_line_reads_it_from_yaml(small_corpus: Corpus):
    parser = ArgumentParser()
    parser.add_class_arguments(AffWild2DataModule, "data")
    text = {"root": str(small_corpus.root), "window": 16, "augmentation": {"flip": 0.25}, "num_workers": 0}
    config = parser.parse_object({"data": text})
    module = parser.instantiate_classes(config).data
    assert module.augmentation == Augmentation(flip=0.25)
    assert module.window == 16
    assert module.num_classes == 8


def test_clips_are_as_long_as_where_the_model_was_trained(small_corpus: Corpus):
    module = ready(small_corpus)
    (usual,) = {batch["audio"].shape[1] for batch in module.val_dataloader()}
    assert module.state_dict() == {"clip_samples": usual, "frame_rate": 25}
    for trained_with, expected in ((usual + 1000, usual + 1000), (usual - 1000, usual)):
        module.load_state_dict({"clip_samples": trained_with})
        assert {batch["audio"].shape[1] for batch in module.val_dataloader()} == {expected}


@pytest.fixture
def two_rates(corpus: Corpus) -> Corpus:
    """Training videos of 25 and 50 frames a second, and one of 50 to validate on; 1.6 seconds each."""
    corpus.add("a", [0, 1] * 20)
    corpus.add("b", [0, 1] * 40, rate=50)
    corpus.add("c", [0, 1] * 20)
    corpus.add("v", [0, 1] * 40, rate=50, split="Validation_Set")
    return corpus


def test_windows_span_the_same_time_at_any_rate(two_rates: Corpus):
    module = ready(two_rates, window=10, frame_rate=25)
    plain = ready(two_rates, window=10)
    seen = set()
    for batch in module.train_dataloader():
        for name, time, frame in zip(batch["video_id"], batch["time"], batch["frame"], strict=True):
            assert (frame >= 0).all()
            assert (time[-1] - time[0]).item() == pytest.approx(9 / 25, abs=1e-3)
            assert set(frame.diff().tolist()) == {2 if name == "b" else 1}
            seen.add(name)
    assert seen == {"a", "b", "c"}
    (batch,) = {tuple(batch["frame"].shape[1:]) for batch in module.val_dataloader()}
    assert batch == (20,), "a chunk holds both phases"
    assert {tuple(batch["frame_step"]) for batch in module.val_dataloader()} <= {
        (2,) * n for n in range(1, 9)
    }
    # The clips are a little longer than a window of 10 frames at 25: 20 frames at 50 reach further.
    assert module.state_dict()["clip_samples"] - plain.state_dict()["clip_samples"] == pytest.approx(
        320, abs=2
    )
    assert module.state_dict()["frame_rate"] == plain.state_dict()["frame_rate"] == 25
    assert module.reading["frame_rate"] == 25
    assert "frame_rate" not in plain.reading


def test_videos_of_another_rate_than_in_training_are_told_once(two_rates: Corpus):
    module = ready(two_rates, window=10)
    module.load_state_dict({"clip_samples": 1, "frame_rate": 25})
    told = r"1 of 1 videos show .* than the 25 .*; v has 50, so that a window spans 0.5 times .*rate to 25"
    with pytest.warns(UserWarning, match=told) as caught:
        module.val_dataloader(), module.val_dataloader()
    assert len([w for w in caught if "frames a second" in str(w.message)]) == 1


def test_nothing_is_told_of_rates_that_fit_or_are_not_known(
    two_rates: Corpus, recwarn: pytest.WarningsRecorder
):
    for state, arguments in (({}, {}), ({"frame_rate": 25}, {"frame_rate": 25.0}), ({"frame_rate": 55}, {})):
        module = ready(two_rates, window=10, **arguments)
        module.load_state_dict({"clip_samples": 1} | state)
        module.val_dataloader()
    assert not [w for w in recwarn if "frames a second" in str(w.message)]


def test_a_corpus_in_bursts_is_heard(corpus: Corpus):
    """Its pictures come four at a time, a second apart; its sound goes on."""
    corpus.add("a", [0, 1] * 20)
    module = ready(corpus, window=16)
    times = np.cumsum(np.tile([1.0, 0.04, 0.04, 0.04], 10)) - 1
    sound = SoundTrack(Path("none"), 0.0, np.array([[0, 16_000 * 60]]), times)
    silent = replace(module._recordings[0], time=times, sound=sound)
    module._recordings = [silent]
    object.__setattr__(sound, "read", lambda first, count: np.zeros(count, np.int16))
    with pytest.warns(UserWarning, match="each window carries"):
        batches = list(module.train_dataloader())
    assert all(batch["audio_mask"].all() for batch in batches)
