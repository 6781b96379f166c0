import dataclasses
import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from abaw import ExpressionModule
from abaw.callbacks import PredictionWriter
from abaw.data import AffWild2DataModule, FeatureDataModule
from abaw.data.features import FeatureRecording, read_header, read_index
from abaw.encoders import LogMelEncoder, PrecomputedEncoder, VisualEncoder
from abaw.errors import InputError
from abaw.fusion import ConcatFusion, FusionHead
from abaw.trainer import ExpressionTrainer

pytestmark = pytest.mark.filterwarnings("ignore:.*videos have:UserWarning")


class PixelEncoder(VisualEncoder):
    """Features that any reference can compute: the mean of each colour, times a weight."""

    out_features = 3

    def __init__(self, scale: float = 1.0, label: str = "a") -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale), requires_grad=False)
        self.calls: list[int] = []
        self.die_after = 10**9
        self.revision = 1

    def provenance(self) -> dict:
        return {"mean": [0.1 * self.revision]}

    def forward(self, video: Tensor, video_mask: Tensor) -> Tensor:
        if len(self.calls) >= self.die_after:
            raise KeyboardInterrupt
        self.calls.append(int(video_mask.sum()))
        return video.float().mean(dim=(-1, -2)) * self.scale * video_mask[..., None]


def revised() -> PixelEncoder:
    encoder = PixelEncoder()
    encoder.revision = 3
    return encoder


class NoHead(FusionHead):
    """A head that nobody is to run."""

    def __init__(self, visual_dim: int, audio_dim: int, num_classes: int) -> None:
        super().__init__()

    def forward(self, *args, **kwargs):
        raise AssertionError("the head was run")


def module(encoder: VisualEncoder | None = None, hear: bool = True) -> ExpressionModule:
    torch.manual_seed(0)
    audio = LogMelEncoder(out_features=4, n_mels=8) if hear else None
    return ExpressionModule(encoder or PixelEncoder(), audio, NoHead(3, 4 if hear else 1, 8))


def data(corpus: Path, **arguments) -> AffWild2DataModule:
    return AffWild2DataModule(
        corpus, **{"window": 16, "batch_size": 2, "num_workers": 0, "image_size": 32} | arguments
    )


def extract(
    model: ExpressionModule, corpus: Path, folder: Path, dtype: str = "float32", trainer=None, **arguments
) -> None:
    trainer = trainer or make_trainer()
    trainer.extract(model, data(corpus, **arguments), str(folder), dtype)


def make_trainer(**arguments) -> ExpressionTrainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return ExpressionTrainer(accelerator="cpu", **quiet | arguments)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of the corpus, extracted without a break."""
    folder = tmp_path_factory.mktemp("features") / "out"
    extract(module(), corpus, folder)
    return folder


def test_every_video_of_every_split_is_there(corpus: Path, whole: Path):
    source = data(corpus)
    source.setup()
    assert [path.stem for path in read_index(whole)] == [video.video_id for video in source.videos]
    assert {video.split for video in source.videos} == {"train", "validation", "test"}
    template = FeatureDataModule(whole).template_path
    assert template.parent == whole
    assert template.read_bytes() == source.template_path.read_bytes()
    for video, target in zip(source.videos, source.targets, strict=True):
        header = read_header(whole / f"{video.video_id}.safetensors")
        assert (header.video_id, header.raw_id, header.split) == (video.video_id, video.raw_id, video.split)
        assert header.num_frames == len(target)
        assert header.lead == pytest.approx(0.5, abs=1e-4)
        assert header.class_names == list(source.class_names)
        assert header.settings == {
            "window": 16,
            "frame_step": 1,
            "image_size": 32,
            "audio_context": 0.5,
            "num_samples": source.reading["num_samples"],
            "batch_size": 2,
            "precision": "32-true",
            "compile": False,
            "dtype": "float32",
        }
        visual, audio = header.encoders["visual"], header.encoders["audio"]
        assert visual["class_path"].endswith("test_feature_writer.PixelEncoder")
        assert audio["class_path"] == "abaw.encoders.logmel.LogMelEncoder"
        assert audio["init_args"] == {"out_features": 4, "n_mels": 8}
        assert (visual["provenance"], audio["provenance"]) == ({"mean": [0.1]}, {})
        assert len(visual["weights"]) == len(audio["weights"]) == 64


def test_features_labels_and_masks_are_those_of_the_frames(corpus: Path, whole: Path):
    source = data(corpus)
    source.setup()
    source.predict_all()
    model = module()
    found: dict[str, list[dict]] = {}
    with torch.no_grad():
        for batch in source.predict_dataloader():
            # The sound of each chunk goes through the encoder with the chunks of its batch, as it did before.
            audio = model.audio_encoder(batch["audio"], batch["time"], batch["audio_mask"])
            exists = batch["frame"] >= 0
            found.setdefault(batch["video_id"][0], []).append(
                {
                    "visual": batch["video"].float().mean(dim=(-1, -2))[exists],
                    "audio": audio[exists],
                    **{name: batch[name][exists] for name in ("video_mask", "audio_mask", "target")},
                    "time": (torch.tensor(batch["audio_start"]).double()[:, None] + batch["time"])[exists],
                }
            )
    assert len(found) == 16
    for name, parts in found.items():
        tensors = FeatureRecording(whole / f"{name}.safetensors").tensors
        for key in parts[0]:
            expected = torch.cat([part[key] for part in parts])
            torch.testing.assert_close(tensors[key], expected, rtol=1e-5, atol=1e-5)


def test_each_face_is_encoded_once(corpus: Path, tmp_path: Path):
    model = module()
    extract(model, corpus, tmp_path)
    faces = sum(int(FeatureRecording(path).tensors["video_mask"].sum()) for path in read_index(tmp_path))
    assert sum(model.visual_encoder.calls) == faces


@pytest.mark.parametrize("die_after", [1, 9, 25])
def test_what_is_finished_is_kept_and_the_rest_ends_with_the_same_bytes(
    corpus: Path, whole: Path, tmp_path: Path, die_after: int
):
    broken = module()
    broken.visual_encoder.die_after = die_after
    with pytest.raises(SystemExit):
        extract(broken, corpus, tmp_path)
    finished = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    assert len(finished) < 16
    with pytest.raises(InputError, match="videos are missing"):
        FeatureDataModule(tmp_path).setup()
    (tmp_path / ".half.safetensors.1.tmp").write_bytes(b"half")

    again = module()
    extract(again, corpus, tmp_path)
    assert digests(tmp_path) == digests(whole)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in finished} == finished
    frames = sum(len(FeatureRecording(tmp_path / name)) for name in finished)
    assert sum(again.visual_encoder.calls) <= 16 * 90 - frames


def test_nothing_is_left_to_do(corpus: Path, whole: Path, tmp_path: Path, capsys):
    before = digests(whole)
    model = module()
    extract(model, corpus, whole)
    assert sum(model.visual_encoder.calls) == 0
    assert digests(whole) == before
    assert "0 videos, 0 frames; 16 videos were finished before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        (lambda: module(PixelEncoder(scale=2.0)), {}, "encoders.visual.init_args.scale is None, not 2.0"),
        (lambda: module(PixelEncoder(label="b")), {}, "encoders.visual.init_args.label is None, not b"),
        (lambda: module(revised()), {}, r"encoders.visual.provenance.mean is \[0.1\], not \[0.3"),
        (lambda: module(hear=False), {}, "encoders.audio.class_path is abaw.*LogMelEncoder, not None"),
        (module, {"window": 8}, "settings.num_samples is .*, not"),
        (module, {"image_size": 16}, "settings.image_size is 32, not 16"),
        (module, {"audio_context": 0.25}, "settings.audio_context is 0.5, not 0.25"),
        (module, {"dtype": "float16"}, "settings.dtype is float32, not float16"),
        (module, {"trainer": "bf16-mixed"}, "settings.precision is 32-true, not bf16-mixed"),
    ],
)
def test_features_made_otherwise_are_refused(corpus: Path, whole: Path, model, arguments: dict, words: str):
    if "trainer" in arguments:
        arguments = arguments | {"trainer": make_trainer(precision=arguments["trainer"])}
    before = digests(whole)
    with pytest.raises(InputError, match=rf"\.safetensors: {words}.*; remove what .* into another"):
        extract(model(), corpus, whole, **arguments)
    assert digests(whole) == before


def test_so_are_those_of_other_weights_and_labels(corpus: Path, whole: Path):
    trained = module()
    torch.nn.init.ones_(next(trained.audio_encoder.parameters()))
    with pytest.raises(InputError, match=r"encoders.audio.weights is \w{64}, not \w{64}, as it would be now"):
        extract(trained, corpus, whole)
    source = data(corpus)
    source.setup()
    source.targets[5][7] += 1
    with pytest.raises(InputError, match="its labels are not those of the corpus"):
        make_trainer().extract(module(), source, str(whole))


def replace_file(path: Path, content: bytes) -> None:
    """Give a file, which may be a hard link, another content at the same time of change."""
    time = path.stat().st_mtime_ns
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(time, time))


def crop(folder: Path, index: int) -> Path:
    return sorted(folder.glob("*.jpg"))[index]


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    """The corpus once more, to be changed."""
    return Path(shutil.copytree(corpus, tmp_path / "copy", copy_function=os.link))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("crops", lambda crops, raw: replace_file(crop(crops, 5), crop(crops, 7).read_bytes())),
        ("crops", lambda crops, raw: crop(crops, 3).unlink()),
        ("crops", lambda crops, raw: replace_file(crop(crops, 0), crop(crops, 0).read_bytes()[:-1] + b"?")),
        ("video", lambda crops, raw: replace_file(raw, raw.read_bytes() + b"?")),
        ("video", lambda crops, raw: replace_file(raw, raw.read_bytes()[:-1] + b"?")),
    ],
)
def test_features_of_what_was_replaced_are_not_kept(copy: Path, whole: Path, tmp_path: Path, what, change):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    extract(module(), copy, out)
    assert digests(out).keys() == digests(whole).keys()
    source = data(copy)
    source.setup()
    video = next(video for video in source.videos if video.split == "test")
    change(video.crops, video.raw)
    before = digests(out)
    with pytest.raises(InputError, match=rf"safetensors: its {what} in the corpus changed since.*; remove"):
        extract(module(), copy, out)
    assert digests(out) == before


def test_features_of_an_older_version_are_kept(copy: Path, whole: Path, tmp_path: Path):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    for path in read_index(out):
        recording = FeatureRecording(path)
        tensors = {name: tensor.clone() for name, tensor in recording.tensors.items()}
        metadata = {"version": 1, **dataclasses.asdict(recording.header)}
        metadata.pop("sources")
        save_file(tensors, path, {"abaw": json.dumps(metadata)})
    model = module()
    extract(model, copy, out)
    assert sum(model.visual_encoder.calls) == 0
    assert FeatureDataModule(out).class_names


def test_labels_that_were_edited_since_are_told(copy: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "out"
    extract(module(), copy, out)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FeatureDataModule(out).setup()
    labels = sorted((copy / "EXPR_Recognition_Challenge/Train_Set").glob("*.txt"))
    for path in labels[:2]:
        lines = path.read_text().splitlines()
        path.unlink()
        path.write_text("\n".join([*lines[:-1], "3" if lines[-1] != "3" else "4"]) + "\n")
    with pytest.warns(UserWarning, match=r"labels of 2 videos were edited since .*\(first: .*Train_Set"):
        FeatureDataModule(out).setup()
    shutil.rmtree(copy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FeatureDataModule(out).setup()


def test_half_precision(corpus: Path, whole: Path, tmp_path: Path):
    extract(module(), corpus, tmp_path, "float16")
    for path in read_index(tmp_path):
        half, full = FeatureRecording(path).tensors, FeatureRecording(whole / path.name).tensors
        assert half["visual"].dtype == half["audio"].dtype == torch.float16
        assert torch.equal(half["visual"], full["visual"].half())
        assert torch.equal(half["time"], full["time"])
    with pytest.raises(InputError, match="features are too large for half precision: set dtype to float32"):
        extract(module(PixelEncoder(scale=1e4)), corpus, tmp_path / "large", "float16")


def test_broken_weights_are_told(corpus: Path, tmp_path: Path):
    with pytest.raises(InputError, match="not finite: the encoder's weights are broken"):
        extract(module(PixelEncoder(scale=torch.inf)), corpus, tmp_path)


def test_a_model_that_only_looks(corpus: Path, tmp_path: Path):
    extract(module(hear=False), corpus, tmp_path)
    recording = FeatureRecording(read_index(tmp_path)[0])
    assert "audio" not in recording.tensors
    assert recording.header.encoders.keys() == {"visual"}
    assert not recording.tensors["audio_mask"].any()


def test_a_damaged_file_is_told_and_written_again(corpus: Path, whole: Path, tmp_path: Path):
    extract(module(), corpus, tmp_path)
    path = read_index(tmp_path)[3]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=rf"1 files are damaged \(first: {path.stem}\)"):
        extract(module(), corpus, tmp_path)
    assert digests(tmp_path) == digests(whole)


def test_a_video_that_was_cut_short_is_not_written(corpus: Path, tmp_path: Path):
    with pytest.warns(UserWarning, match="15 videos were cut short and are not written"):
        extract(module(), corpus, tmp_path, trainer=make_trainer(limit_predict_batches=4))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    # 90 frames are 3 batches.
    extract(module(), corpus, tmp_path)
    assert len(read_index(tmp_path)) == 16


def test_official_splits_are_kept_whatever_the_folds(corpus: Path, whole: Path, tmp_path: Path):
    extract(module(), corpus, tmp_path, folds=3, fold=1)
    assert digests(tmp_path) == digests(whole)


def test_the_users_callbacks_are_as_before(corpus: Path, tmp_path: Path):
    trainer = make_trainer(callbacks=[PredictionWriter(tmp_path / "predictions")])
    before = list(trainer.callbacks)
    extract(module(), corpus, tmp_path / "out", trainer=trainer)
    assert trainer.callbacks == before
    assert not (tmp_path / "predictions").exists()


def test_features_have_no_features(corpus: Path, whole: Path, tmp_path: Path):
    model = ExpressionModule(PrecomputedEncoder(3), None, ConcatFusion(3, 1, 8))
    with pytest.raises(InputError, match="extracted from an AffWild2DataModule, not a FeatureDataModule"):
        make_trainer().extract(model, FeatureDataModule(whole), str(tmp_path))
    with pytest.raises(InputError, match="visual_encoder is a PrecomputedEncoder"):
        extract(model, corpus, tmp_path)


def test_the_corpus_is_as_before(corpus: Path, whole: Path, tmp_path: Path):
    source = data(corpus)
    source.setup()
    test = {video.video_id for video in source.videos if video.split == "test"}
    broken = module()
    broken.visual_encoder.die_after = 1
    make_trainer().extract(module(), source, str(whole))
    assert {batch["video_id"][0] for batch in source.predict_dataloader()} == test
    with pytest.raises(SystemExit):
        make_trainer().extract(broken, source, str(tmp_path))
    assert {batch["video_id"][0] for batch in source.predict_dataloader()} == test


def test_a_folder_that_cannot_be_written(corpus: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        extract(module(), corpus, tmp_path / "file" / "out")
