from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from small import fit_arguments

import abaw
from abaw import ExpressionModule
from abaw.callbacks import SlidingWindowInference, VideoScores, VideoScoresConsumer
from abaw.cli import main
from abaw.data import AffWild2DataModule
from abaw.encoders import ConvVisualEncoder, LogMelEncoder
from abaw.errors import InputError
from abaw.fusion import DualBranchTransformer
from abaw.postprocess import Decoder, Postprocessing
from abaw.predict import VideoPrediction

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
            torch.testing.assert_close(prediction.scores[:n], expected.scores[:n], atol=1e-5, rtol=0)
            assert torch.equal(prediction.video_mask[:n], expected.video_mask[:n])
            assert torch.equal(prediction.audio_mask[:n], expected.audio_mask[:n])
            assert torch.equal(prediction.labels, prediction.scores.argmax(-1))
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
        "--data.window=12",
        "--data.frame_step=2",
        "--inference.stride=5",
        "--inference.weighting=hann",
    ]
    assert main([*fit_arguments(corpus, run), *options]) == 0
    crops = corpus / "cropped_aligned" / video.stem
    prediction = abaw.predict_video(run, video, crops=crops)
    checkpoint = run / "checkpoints" / "best.ckpt"
    state = torch.load(checkpoint, weights_only=True)
    by_hand = abaw.predict_video(
        ExpressionModule.load_from_checkpoint(checkpoint, weights_only=True),
        video,
        crops=crops,
        window=12,
        frame_step=2,
        stride=5,
        weighting="hann",
        image_size=32,
        clip_samples=state["AffWild2DataModule"]["clip_samples"],
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
    with pytest.raises(ValueError, match=f"{number} must be at least 1, got 0"):
        abaw.predict_video(make_model(), video, crops=crops, **{number: 0})
    with pytest.raises(ValueError, match="audio_context is a number of seconds, not -1"):
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


def test_the_score_of_a_stretch_is_that_of_its_scored_frames() -> None:
    yes, covered = torch.ones(3, dtype=torch.bool), torch.tensor([True, False, True])
    scores = torch.tensor([[0.2, 0.8], [0.0, 0.0], [0.4, 0.6]])
    time = torch.arange(3, dtype=torch.float64)
    labels = torch.tensor([1, 1, 1])
    (stretch,) = VideoPrediction("v", ["calm", "glad"], time, scores, labels, covered, yes, yes).timeline()
    assert stretch.score == pytest.approx(0.7)


def test_timeline() -> None:
    def mask(text: str) -> torch.Tensor:
        return torch.tensor([c == "1" for c in text])

    scores = torch.tensor([[0.6, 0.4], [0.8, 0.2], [0.9, 0.1], [0.3, 0.7]])
    prediction = VideoPrediction(
        "v",
        ["calm", "glad"],
        torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64),
        scores,
        scores.argmax(-1),
        mask("1111"),
        mask("1101"),
        mask("1111"),
    )
    timeline = prediction.timeline()
    assert [(s.start, s.end, s.expression, s.face) for s in timeline] == [
        (0.5, 1.5, "calm", True),
        (1.5, 2.0, "calm", False),
        (2.0, 2.5, "glad", True),
    ]
    assert [s.score for s in timeline] == pytest.approx([0.7, 0.9, 0.7])


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
