import errno
import os
import re
import shutil
import warnings
import wave
from pathlib import Path

import av
import cv2
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from aff_wild2_files import write_media, write_song
from small import fit_arguments

import abaw
from abaw import ExpressionModule
from abaw.callbacks import SlidingWindowInference, VideoScores, VideoScoresConsumer
from abaw.cli import main
from abaw.data import AffWild2DataModule
from abaw.data.audio import cache_sound
from abaw.encoders import ConvVisualEncoder, LogMelEncoder
from abaw.engine import WindowVoter
from abaw.errors import InputError
from abaw.fusion import DualBranchTransformer
from abaw.postprocess import Decoder, Postprocessing
from abaw.trained_run import TrainedRun

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*videos have:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is damaged:UserWarning"),
]


def make_model() -> ExpressionModule:
    torch.manual_seed(0)
    return ExpressionModule(
        ConvVisualEncoder(out_features=8),
        LogMelEncoder(out_features=8),
        DualBranchTransformer(8, 8, 8, dim=16),
    )


class Collector(pl.Callback, VideoScoresConsumer):
    def __init__(self) -> None:
        self.results: dict[str, VideoScores] = {}

    def on_video_scored(self, trainer, pl_module, result: VideoScores) -> None:
        self.results.setdefault(result.video_id, result)


def raw_file(corpus: Path, video_id: str) -> Path:
    folders = ("batch1", "batch2", "new_vids")
    (path,) = [path for folder in folders for path in (corpus / folder).glob(f"{video_id}.*")]
    return path


@pytest.fixture(scope="module")
def video(corpus: Path) -> Path:
    """A raw video of one person."""
    names = sorted(path.name for path in (corpus / "cropped_aligned").iterdir() if path.is_dir())
    return raw_file(corpus, next(name for name in names if not name.endswith(("_left", "_right"))))


@pytest.fixture(scope="module")
def scored(corpus: Path) -> tuple[AffWild2DataModule, dict[str, VideoScores]]:
    """What the Trainer says of the validation videos."""
    data = AffWild2DataModule(corpus, window=16, batch_size=2, num_workers=0)
    collector = Collector()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[SlidingWindowInference(window=16, stride=5), collector],
        enable_progress_bar=False,
    )
    trainer.validate(make_model(), data, verbose=False)
    return data, collector.results


def test_says_what_the_trainer_says(
    corpus: Path, scored: tuple[AffWild2DataModule, dict[str, VideoScores]]
) -> None:
    data, results = scored
    # A model that was trained on this corpus hears clips of its length.
    model, length = make_model(), data.state_dict()["clip_samples"]
    compared = 0
    for video_id, expected in results.items():
        crops = corpus / "cropped_aligned" / video_id
        if video_id.endswith(("_left", "_right")) or not crops.is_dir():
            continue
        for batch_size in (1, 3):
            prediction = abaw.predict_video(
                model,
                raw_file(corpus, video_id),
                crops=crops,
                window=16,
                stride=5,
                batch_size=batch_size,
                clip_samples=length,
            )
            # The labels' number rules in a corpus; here, that of the pictures.
            n = min(len(prediction.scores), len(expected.scores)) - 16
            given = prediction.seen_or_heard
            scores = expected.scores[:n] * given[:n, None]
            torch.testing.assert_close(prediction.scores[:n], scores, atol=1e-5, rtol=0)
            assert torch.equal(prediction.video_mask[:n], expected.video_mask[:n])
            assert torch.equal(prediction.audio_mask[:n], expected.audio_mask[:n])
            assert torch.equal(prediction.labels[given], prediction.scores.argmax(-1)[given])
        compared += 1
    assert compared >= 2
    assert model.training


def test_compiled_it_says_the_same(corpus: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: compiled.append(function) or function)
    model, crops = make_model(), corpus / "cropped_aligned" / video.stem
    plain = abaw.predict_video(model, video, crops=crops, window=16)
    assert compiled == []
    prediction = abaw.predict_video(model, video, crops=crops, window=16, compile=True)
    torch.testing.assert_close(prediction.scores, plain.scores, atol=1e-5, rtol=0)
    assert compiled == [model.visual_encoder.encode_frames, model.audio_encoder.encode_sound, model.fusion]


def test_a_run_brings_its_settings(corpus: Path, video: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [
        "--data.class_path=small.OwnDataModule",
        "--data.window=12",
        "--data.frame_step=2",
        "--inference.stride=5",
        "--inference.weighting=hann",
    ]
    assert main([*fit_arguments(corpus, run), *options]) == 0
    crops = corpus / "cropped_aligned" / video.stem
    prediction = abaw.predict_video(run, video, crops=crops)
    checkpoint = run / "checkpoints" / "best.ckpt"
    length = torch.load(checkpoint, weights_only=True)["OwnDataModule"]["clip_samples"]
    assert TrainedRun.load(run).reading["clip_samples"] == length > 0
    by_hand = abaw.predict_video(
        ExpressionModule.load_from_checkpoint(checkpoint, weights_only=True),
        video,
        crops=crops,
        window=12,
        frame_step=2,
        stride=5,
        weighting="hann",
        image_size=32,
        clip_samples=length,
    )
    torch.testing.assert_close(prediction.scores, by_hand.scores, atol=1e-6, rtol=0)
    other = abaw.predict_video(run, video, crops=crops, weighting="uniform")
    assert not torch.allclose(prediction.scores, other.scores, atol=1e-6)

    bias = tuple(99.0 * (label == 5) for label in range(8))
    Postprocessing(abaw.EXPRESSIONS, Decoder(bias=bias)).write(run / "postprocess.yaml")
    tuned = abaw.predict_video(run, video, crops=crops)
    assert (tuned.labels == 5).all()
    torch.testing.assert_close(tuned.scores, prediction.scores)

    (run / "config.yaml").write_text("model: {}")
    with pytest.raises(InputError, match=r"config\.yaml: is no configuration"):
        abaw.predict_video(run, video, crops=crops)


def test_without_crops_the_pictures_are_faces(video: Path) -> None:
    with pytest.warns(UserWarning, match="whole pictures count as faces"):
        prediction = abaw.predict_video(make_model(), video, window=8)
    assert prediction.video_mask.all()
    assert prediction.covered.all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"video": "nowhere.mp4"}, "nowhere.mp4: no such video"),
        ({"crops": "nowhere"}, "nowhere: no such folder"),
        ({"face_detector": "nowhere.onnx"}, "nowhere.onnx: no such file"),
        ({"model": "nowhere"}, "nowhere/config.yaml: no such file"),
    ],
)
def test_bad_input_is_one_line(video: Path, arguments: dict[str, str], message: str) -> None:
    defaults = {"model": make_model(), "video": video}
    with pytest.raises(InputError, match=message) as error:
        abaw.predict_video(**{**defaults, **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", ["window", "stride", "frame_step", "batch_size", "image_size"])
def test_numbers_below_one_are_refused(corpus: Path, video: Path, number: str) -> None:
    crops = corpus / "cropped_aligned" / video.stem
    with pytest.raises(ValueError, match=f"{number} must be at least 1, not 0"):
        abaw.predict_video(make_model(), video, crops=crops, **{number: 0})
    with pytest.raises(ValueError, match="audio_context must be at least 0, not -1"):
        abaw.predict_video(make_model(), video, crops=crops, audio_context=-1.0)


def test_a_run_brings_its_precision(
    corpus: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*fit_arguments(corpus, tmp_path), "--trainer.precision=bf16-mixed"]) == 0
    seen = set()
    encode = ExpressionModule.encode

    def spy(self, batch):
        seen.add((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return encode(self, batch)

    monkeypatch.setattr(ExpressionModule, "encode", spy)
    abaw.predict_video(tmp_path, video, crops=corpus / "cropped_aligned" / video.stem)
    assert seen == {(True, torch.bfloat16)}


def test_a_video_of_one_frame_lasts_as_long_as_its_rate_says(tmp_path: Path) -> None:
    write_media(tmp_path / "v.mp4", num_frames=1, rate=8)
    cv2.imwrite(str(tmp_path / "v.png"), np.full((48, 64, 3), 99, np.uint8))
    for name, seconds in {"v.mp4": 1 / 8, "v.png": 1 / 25}.items():
        with pytest.warns(UserWarning, match="whole pictures"):
            (stretch,) = abaw.predict_video(make_model(), tmp_path / name, window=4).timeline()
        assert (stretch.start, stretch.end) == (0.0, pytest.approx(seconds))
        assert stretch.face
        assert not stretch.voice


@pytest.fixture
def gaps(tmp_path: Path) -> tuple[Path, Path]:
    """A video of 12 frames that is silent from the sixth on, and its crops: none in 1-2, 7-9 and 12."""
    write_media(tmp_path / "v.avi", num_frames=12, rate=25, sound=np.full(3200, 0.3))
    crops = tmp_path / "crops"
    crops.mkdir()
    for number in (3, 4, 5, 6, 10, 11):
        cv2.imwrite(str(crops / f"{number:05d}.jpg"), np.full((112, 112, 3), 20 * number, np.uint8))
    return tmp_path / "v.avi", crops


def models() -> dict[str, ExpressionModule]:
    torch.manual_seed(0)
    eyes, ears = ConvVisualEncoder(out_features=8), LogMelEncoder(out_features=8)
    return {
        "both": ExpressionModule(eyes, ears, DualBranchTransformer(8, 8, 8, dim=16)),
        "eyes": ExpressionModule(eyes, None, DualBranchTransformer(8, 1, 8, dim=16)),
        "ears": ExpressionModule(None, ears, DualBranchTransformer(1, 8, 8, dim=16)),
    }


@pytest.mark.parametrize(
    ("kind", "told"), [("both", "111111000110"), ("eyes", "001111000110"), ("ears", "111110000000")]
)
@pytest.mark.parametrize("window", [4, 64])
def test_nothing_seen_and_nothing_heard_is_no_answer(
    gaps: tuple[Path, Path], kind: str, told: str, window: int
) -> None:
    video, crops = gaps
    prediction = abaw.predict_video(models()[kind], video, crops=crops, window=window)
    given = torch.tensor([c == "1" for c in told])
    assert prediction.seen_or_heard.equal(given)
    assert prediction.covered.all(), "windows have seen the frames all the same"
    assert (prediction.labels == abaw.IGNORE_INDEX).equal(~given)
    assert prediction.labels[given].equal(prediction.scores.argmax(-1)[given])
    assert (prediction.scores.sum(-1) - given.float()).abs().max() < 1e-5
    for stretch in prediction.timeline():
        frames = given[round(stretch.start * 25) : round(stretch.end * 25)]
        assert (stretch.expression is not None) == (stretch.face or stretch.voice) == bool(frames.all())
        assert (stretch.score > 0) == bool(frames.any())


def test_a_tuned_run_does_not_smooth_over_what_it_cannot_tell(
    gaps: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    video, crops = gaps
    seen = {}

    def spy(self, scores, covered=None, video_id=None):
        seen["covered"] = covered
        return scores, torch.full((len(scores),), 3)

    monkeypatch.setattr(Postprocessing, "__call__", spy)
    tuned = Postprocessing(abaw.EXPRESSIONS, Decoder())
    run = TrainedRun(models()["both"], {}, {}, None, tuned)
    monkeypatch.setattr(TrainedRun, "load", lambda *_: run)
    prediction = abaw.predict_video("run", video, crops=crops)
    assert seen["covered"].equal(prediction.seen_or_heard)
    assert prediction.labels.tolist() == [3] * 6 + [-1] * 3 + [3] * 2 + [-1]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("both", "in all of its 7 frames there is neither face nor voice; nothing is told"),
        ("eyes", "in all of its 7 frames there is no face, and the model only looks; nothing"),
        ("ears", "in all of its 7 frames there is no voice, and the model only listens; nothing"),
    ],
)
def test_a_video_without_anything_is_told_with_the_number_of_its_frames(
    tmp_path: Path, kind: str, words: str
) -> None:
    video, crops = tmp_path / "v.mp4", tmp_path / "crops"
    write_media(video, num_frames=7, sound=np.full(5000, 0.3) if kind == "eyes" else None)
    crops.mkdir()
    with pytest.warns(UserWarning, match=words) as caught:
        prediction = abaw.predict_video(models()[kind], video, crops=crops, window=4)
    assert len(caught) == 1
    assert prediction.labels.tolist() == [-1] * 7
    assert not prediction.scores.any()
    assert [(s.expression, s.score) for s in prediction.timeline()] == [(None, 0.0)]


def test_what_a_killed_prediction_has_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "scratch" / "abaw-left"
    left.mkdir(parents=True)
    (left / ".lock").touch()
    os.utime(left / ".lock", (1, 1))
    monkeypatch.setattr("tempfile.tempdir", str(left.parent))
    write_song(tmp_path / "song.wav", 0.3 * np.sin(np.arange(8_000) * 0.2))
    abaw.predict_video(make_model(), tmp_path / "song.wav", window=8)
    assert list(left.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["v.m4a", "cover.mp3", "v.wav"])
def test_a_voice_without_pictures_is_a_timeline_of_the_voice(tmp_path: Path, name: str) -> None:
    write_song(tmp_path / name, 0.3 * np.sin(np.arange(24_000) * 0.2), cover=name.startswith("cover"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prediction = abaw.predict_video(make_model(), tmp_path / name, window=8)
    # AAC's last frame is filled up.
    assert 45 <= len(prediction.time) <= 48
    np.testing.assert_allclose(prediction.time.diff(), 1 / 30, atol=1e-6)
    assert not prediction.video_mask.any()
    assert prediction.audio_mask.all()
    heard = abaw.predict_video(models()["ears"], tmp_path / name, window=8)
    assert heard.audio_mask.all()
    with pytest.raises(InputError, match=rf"{name}: holds no picture, .* the model only looks; give a video"):
        abaw.predict_video(models()["eyes"], tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: holds no picture, .* leave crops out"):
        abaw.predict_video(make_model(), tmp_path / name, crops=tmp_path)


def test_crops_of_something_else_are_refused_or_counted(gaps: tuple[Path, Path], tmp_path: Path) -> None:
    video, crops = gaps
    for number in (13, 400):
        shutil.copy(crops / "00003.jpg", crops / f"{number:05d}.jpg")
    with pytest.warns(UserWarning, match="2 crops are numbered beyond the 12 frames,"):
        abaw.predict_video(make_model(), video, crops=crops)
    for path in crops.glob("0000?.jpg"):
        path.unlink()
    for number in (10, 11):
        (crops / f"{number:05d}.jpg").unlink()
    with pytest.raises(InputError, match="crops: none of its 2 files is a crop of the video's 12 frames"):
        abaw.predict_video(make_model(), video, crops=crops)


def test_progress_is_shown_on_stderr_if_asked_for(
    gaps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    video, _ = gaps
    with pytest.warns(UserWarning, match="whole pictures"):
        abaw.predict_video(models()["eyes"], video, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    for step in ("Finding faces", "Encoding"):
        assert re.search(rf"{step}.*12/12", shown.err)
    with pytest.warns(UserWarning, match="whole pictures"):
        abaw.predict_video(models()["eyes"], video)  # not a terminal
    assert capsys.readouterr() == ("", "")


def test_home_is_known(gaps: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    prediction = abaw.predict_video(make_model(), "~/v.avi", crops="~/crops")
    assert len(prediction.labels) == 12
    for argument, name in {"face_detector": "~/no.onnx", "model": "~/run", "video": "~/no.mp4"}.items():
        arguments = {"model": make_model(), "video": "~/v.avi", argument: name}
        with pytest.raises(InputError, match=str(tmp_path)):
            abaw.predict_video(**arguments)


@pytest.mark.parametrize("name", ["Interview: part 1.avi", "s3:x.avi", "a::b.avi", "-100% #1 'é [%d].avi"])
def test_a_video_may_have_any_name(
    name: str, gaps: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gaps[0].rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    prediction = abaw.predict_video(make_model(), name, crops="crops")
    assert len(prediction.labels) == 12
    assert prediction.audio_mask.any()


@pytest.mark.filterwarnings("ignore:.*whole pictures:UserWarning")
@pytest.mark.parametrize("fails", ["crops", "sound"])
def test_a_full_disk_is_told_in_words(
    gaps: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    where = {"crops": (Path, "write_bytes"), "sound": (wave.Wave_write, "writeframesraw")}
    monkeypatch.setattr(*where[fails], full)
    crops = None if fails == "crops" else gaps[1]
    with pytest.raises(InputError, match=r"TMPDIR.*No space left|No space left.*TMPDIR"):
        abaw.predict_video(make_model(), gaps[0], crops=crops)


def test_a_video_without_a_face_says_so_and_nothing_of_crops(real: Path, tmp_path: Path) -> None:
    write_media(tmp_path / "v.avi", num_frames=6, sound=np.full(8000, 0.3))
    detector = real / "yunet_n_320_320.onnx"
    with pytest.warns(UserWarning, match="no face was found in any of its 6 pictures") as caught:
        prediction = abaw.predict_video(make_model(), tmp_path / "v.avi", face_detector=detector)
    assert len(caught) == 1
    assert not prediction.video_mask.any()
    assert (prediction.labels >= 0).all(), "there is the voice"


@pytest.mark.slow
def test_finds_real_faces(real: Path) -> None:
    video = real / "bbaf2n.mpg"
    prediction = abaw.predict_video(
        make_model(), video, face_detector=real / "yunet_n_320_320.onnx", window=8
    )
    assert len(prediction.labels) == 75
    assert prediction.video_mask.float().mean() >= 0.95
    assert prediction.audio_mask.float().mean() >= 0.95
    assert prediction.timeline()[-1].end == pytest.approx(3.0, abs=0.05)


def test_what_is_there_of_a_video_that_breaks_off_is_predicted(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    sound = 0.3 * np.sin(np.arange(4 * 16_000) * 0.2)
    write_media(whole, num_frames=100, sound=sound, options={"movflags": "faststart"}, noise=True)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.warns(UserWarning, match=r"cut\.mp4: is damaged.* of 100 pictures are there"):
        prediction = abaw.predict_video(make_model(), cut, window=16)
    assert 30 < len(prediction.labels) < 100
    assert prediction.video_mask.all()
    assert prediction.audio_mask.all()


def test_of_a_cut_h264_file_what_decodes_is_predicted_and_counted(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(100):
            picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.warns(UserWarning, match=r"cut\.mp4: is damaged.* of 100 pictures are there"):
        prediction = abaw.predict_video(make_model(), cut, window=16)
    assert 50 < len(prediction.labels) <= 60
    assert prediction.video_mask.all()
    in_a_corpus = cache_sound(cut, tmp_path / "c.safetensors").picture_times
    assert len(in_a_corpus) == len(prediction.labels)


def test_windows_span_the_time_that_they_span_in_training(
    corpus: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was trained at one rate meets the same recording at twice the rate."""
    run = tmp_path / "run"
    options = ["--data.frame_rate=15", "--data.window=12", "--inference.stride=6"]
    assert main([*fit_arguments(corpus, run), *options]) == 0
    reading = TrainedRun.load(run).reading
    assert reading["frame_rate"] == 15
    assert reading["trained_rate"] == pytest.approx(15, rel=0.2)

    fast = tmp_path / "fast.mp4"
    write_media(fast, num_frames=120, rate=60, sound=np.zeros(32_000))
    spans = []

    def spy(self, head, features, frames):
        spans.append(float(features.time[frames[11]] - features.time[frames[0]]))
        return windows(self, head, features, frames)

    windows = WindowVoter._windows
    monkeypatch.setattr(WindowVoter, "_windows", spy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prediction = abaw.predict_video(run, fast)
    assert not [w for w in caught if "frames a second" in str(w.message)]
    assert spans == pytest.approx([11 / 15] * 4, abs=1e-3), "each of the four phases"
    assert prediction.covered.all()

    spans.clear()
    with pytest.warns(UserWarning, match=r"1 of 1 videos show .*; fast has 60, .*set frame_rate to"):
        abaw.predict_video(run, fast, frame_step=1)
    assert spans == pytest.approx([11 / 60], abs=1e-3)
    with pytest.raises(InputError, match="frame_rate 30 chooses"):
        abaw.predict_video(run, fast, frame_step=2, frame_rate=30)
