from collections import Counter
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils.data import DataLoader

from abaw import EXPRESSIONS, ExpressionModule
from abaw.callbacks import SlidingWindowInference, VideoScores, VideoScoresConsumer
from abaw.encoders import AudioEncoder, VisualEncoder
from abaw.engine import VideoFeatures
from abaw.errors import InputError
from abaw.fusion import DualBranchTransformer, FusionHead
from abaw.postprocess import Decoder, HeldOut, Postprocessing, Smoothing

CLASSES = 8


class PixelEncoder(VisualEncoder):
    """Features that any reference can compute: the mean of each colour. Notes each picture that it is
    given."""

    out_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.seen = Counter[bytes]()

    def forward(self, video: Tensor, video_mask: Tensor) -> Tensor:
        self.seen.update(picture.numpy().tobytes() for picture in video[video_mask])
        return video.float().mean(dim=(-1, -2)) / 255 * video_mask[..., None]


class SampleEncoder(AudioEncoder):
    """Features are the sample at a frame's time, of sound with 100 samples a second, and its square."""

    out_features = 2

    def forward(self, audio: Tensor, time: Tensor, audio_mask: Tensor) -> Tensor:
        sample = audio.gather(1, (time * 100).round().long())
        return torch.stack([sample, sample**2], dim=-1) * audio_mask[..., None]


class ContextHead(FusionHead):
    """Looks at the whole window and at the clock, so that a wrong window or a wrong time changes the
    logits."""

    def __init__(self, visual_dim: int, audio_dim: int, num_classes: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(visual_dim + audio_dim + 1, num_classes)
        self.autocast_seen: set[bool] = set()

    def forward(self, visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        self.autocast_seen.add(torch.is_autocast_enabled("cpu"))
        features = torch.cat([visual, audio, time[..., None]], dim=-1) * frame_mask[..., None]
        mean = features.sum(dim=1, keepdim=True) / frame_mask.sum(dim=1)[:, None, None]
        return self.linear(features * 3 + mean)


class Collector(pl.Callback, VideoScoresConsumer):
    def __init__(self) -> None:
        self.results: list[VideoScores] = []

    def on_video_scored(self, trainer, pl_module, result: VideoScores) -> None:
        self.results.append(result)


def make_features(num_frames: int, seed: int = 0) -> VideoFeatures:
    generator = torch.Generator().manual_seed(seed)
    video_mask = torch.rand(num_frames, generator=generator) > 0.2
    audio_mask = torch.rand(num_frames, generator=generator) > 0.2
    return VideoFeatures(
        "v",
        torch.randn(num_frames, 3, generator=generator) * video_mask[:, None],
        torch.randn(num_frames, 2, generator=generator) * audio_mask[:, None],
        video_mask,
        audio_mask,
        torch.cumsum(torch.rand(num_frames, generator=generator, dtype=torch.float64) / 20, 0),
        torch.randint(-1, CLASSES, (num_frames,), generator=generator),
        lead=0.5,
    )


def brute_force(head: ContextHead, video: VideoFeatures, window: int, stride: int, step: int) -> np.ndarray:
    """Each window on its own, in float64, one frame at a time."""
    weight, bias = (p.detach().double().numpy() for p in (head.linear.weight, head.linear.bias))
    n = video.num_frames
    sums, counts = np.zeros((n, CLASSES)), np.zeros(n)
    for phase in range(min(step, n)):
        frames = list(range(phase, n, step))
        starts, start = [], 0
        while start + window < len(frames):
            starts.append(start)
            start += stride
        starts.append(max(len(frames) - window, 0))
        for start in sorted(set(starts)):
            taken = frames[start : start + window]
            rows = [
                np.concatenate(
                    [
                        video.visual[i].double().numpy(),
                        video.audio[i].double().numpy(),
                        [float(video.time[i] - video.time[taken[0]]) + video.lead],
                    ]
                )
                for i in taken
            ]
            mean = sum(rows) / len(rows)
            for i, row in zip(taken, rows, strict=True):
                logits = weight @ (row * 3 + mean) + bias
                exps = np.exp(logits - logits.max())
                sums[i] += exps / exps.sum()
                counts[i] += 1
    return sums / counts[:, None]


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize(("window", "stride"), [(8, 4), (8, 3), (8, 8), (5, 1), (40, 7)])
@pytest.mark.parametrize("num_frames", [1, 2, 7, 8, 9, 40, 41])
def test_votes_equal_each_window_on_its_own(num_frames: int, window: int, stride: int, step: int) -> None:
    head, video = ContextHead(3, 2, CLASSES), make_features(num_frames)
    expected = brute_force(head, video, window, stride, step)
    for batch_size in (1, 3, 64):
        inference = SlidingWindowInference(window, stride, frame_step=step, batch_size=batch_size)
        scores, covered = inference.vote(head, video, CLASSES)
        assert covered.all()
        np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)


def test_a_videos_own_frame_step_goes_before_that_of_the_others() -> None:
    head, video = ContextHead(3, 2, CLASSES), make_features(41)
    inference = SlidingWindowInference(8, 3)
    scores, _ = inference.vote(head, replace(video, frame_step=3), CLASSES)
    np.testing.assert_allclose(scores.numpy(), brute_force(head, video, 8, 3, 3), atol=1e-5)


def test_stride_beyond_the_window_says_what_it_left_out() -> None:
    scores, covered = SlidingWindowInference(4, 6).vote(
        ContextHead(3, 2, CLASSES), make_features(16), CLASSES
    )
    assert covered.tolist() == [i in {0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15} for i in range(16)]
    assert (scores[~covered] == 0).all()


@pytest.mark.parametrize("argument", ["window", "stride", "frame_step", "batch_size"])
def test_numbers_below_one_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        SlidingWindowInference(**{argument: 0})


def test_a_compiled_head_sees_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    head, shapes = ContextHead(3, 2, CLASSES), []

    def compile(function, dynamic):
        assert dynamic is False
        return lambda visual, *rest, **named: (
            shapes.append(tuple(visual.shape)) or function(visual, *rest, **named)
        )

    monkeypatch.setattr(torch, "compile", compile)
    compiled, plain = (SlidingWindowInference(8, 3, batch_size=5, compile=on) for on in (True, False))
    for num_frames in (3, 8, 41):
        video = make_features(num_frames)
        expected, _ = plain.vote(head, video, CLASSES)
        scores, covered = compiled.vote(head, video, CLASSES)
        assert covered.all()
        torch.testing.assert_close(scores, expected)
    assert set(shapes) == {(5, 8, 3)}


def test_the_librarys_head_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, real = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda head, dynamic: real(head, dynamic=dynamic, backend=counter))
    head = DualBranchTransformer(3, 2, CLASSES, dim=16).eval()
    compiled, plain = (SlidingWindowInference(8, 3, batch_size=5, compile=on) for on in (True, False))
    for num_frames in (3, 8, 41):
        video = make_features(num_frames)
        scores, _ = compiled.vote(head, video, CLASSES)
        torch.testing.assert_close(scores, plain.vote(head, video, CLASSES)[0], atol=1e-5, rtol=0)
    assert counter.frame_count == 1


def make_loader(lengths: dict[str, int], chunk: int = 8, per_batch: int = 2) -> DataLoader:
    """Batches as an evaluation loader emits them, made by hand."""
    batches = []
    for number, (name, length) in enumerate(lengths.items()):
        generator = torch.Generator().manual_seed(number)
        padded = -(-length // chunk) * chunk
        exists = torch.arange(padded) < length
        face = (torch.rand(64, generator=generator) > 0.2)[:padded] & exists
        pixels = torch.randint(0, 256, (64, 3, 4, 4), generator=generator, dtype=torch.uint8)[:padded]
        sound = torch.rand(1000, generator=generator)  # from half a second before the first frame
        whole = {
            "video": pixels * face[:, None, None, None],
            "video_mask": face,
            "audio_mask": exists,
            "time": 0.5 + (torch.arange(padded) % chunk) / 25,
            "target": torch.randint(0, CLASSES, (padded,), generator=generator).where(
                exists, torch.tensor(-1)
            ),
            "frame": torch.arange(padded).where(exists, torch.tensor(-1)),
        }
        rows = [{key: value[i : i + chunk] for key, value in whole.items()} for i in range(0, padded, chunk)]
        for first in range(0, len(rows), per_batch):
            part = rows[first : first + per_batch]
            batch = {key: torch.stack([row[key] for row in part]) for key in whole}
            starts = [4 * chunk * (first + i) for i in range(len(part))]
            batch["audio"] = torch.stack([sound[start : start + 4 * chunk + 50] for start in starts])
            batch["video_id"] = [name] * len(part)
            batch["audio_start"] = [(first + i) * chunk / 25 - 0.5 for i in range(len(part))]
            batch["num_frames"] = [length] * len(part)
            batches.append(batch)
    return DataLoader(batches, batch_size=None)


def evaluate(
    loader: DataLoader,
    folder: Path,
    method: str = "validate",
    postprocess: Path | None = None,
    stride: int = 4,
    **options,
):
    module = ExpressionModule(PixelEncoder(), SampleEncoder(), ContextHead(3, 2, CLASSES))
    collector = Collector()
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        callbacks=[collector, SlidingWindowInference(8, stride, postprocess=postprocess)],
        **options,
    )
    arguments = {"return_predictions": False} if method == "predict" else {"verbose": False}
    getattr(trainer, method)(module, loader, **arguments)
    return module, trainer, collector.results


LENGTHS = {"a": 20, "b": 8, "c": 3, "d": 33}


def test_logged_scores_are_scikit_learns(tmp_path: Path) -> None:
    _, trainer, results = evaluate(make_loader(LENGTHS), tmp_path)
    target = torch.cat([result.target for result in results]).numpy()
    predicted = torch.cat([result.scores.argmax(-1) for result in results]).numpy()
    assert len(target) == sum(LENGTHS.values())
    logged = trainer.callback_metrics
    expected = f1_score(target, predicted, labels=range(CLASSES), average="macro", zero_division=0)
    assert float(logged["val/f1"]) == pytest.approx(expected, abs=1e-6)
    assert float(logged["val/accuracy"]) == pytest.approx((target == predicted).mean(), abs=1e-6)


@pytest.mark.parametrize(("method", "stage"), [("validate", "val"), ("test", "test")])
def test_frames_that_are_left_out_are_counted(tmp_path: Path, method: str, stage: str) -> None:
    words = rf"12 of 64 annotated frames lie in no window.* left out of {stage}/f1; the stride is 12"
    with pytest.warns(UserWarning, match=words):
        _, _, results = evaluate(make_loader(LENGTHS), tmp_path, method, stride=12)
    first = {result.video_id: result for result in reversed(results)}.values()
    assert sum(int((~result.covered).sum()) for result in first) == 12


@pytest.mark.parametrize("method", ["test", "predict"])
def test_labels_are_decided_by_the_file_each_video_by_its_own_parameters(tmp_path: Path, method: str) -> None:
    def always(label: int) -> Decoder:
        return Decoder(bias=tuple(99.0 * (c == label) for c in range(CLASSES)))

    path = tmp_path / "p.yaml"
    Postprocessing(EXPRESSIONS, always(5), (HeldOut(("b", "d"), always(2)),)).write(path)
    _, trainer, results = evaluate(make_loader(LENGTHS), tmp_path, method, path)
    _, _, plain = evaluate(make_loader(LENGTHS), tmp_path, method)
    for result, vote in zip(results, plain, strict=True):
        held_out = result.video_id in "bd"
        assert set(result.labels.tolist()) == {2 if held_out else 5}
        assert result.decided_by == ("held-out parameters" if held_out else "final parameters")
        assert result.scores.equal(vote.scores), "what was voted is told as it is"
        assert vote.decided_by == "vote"
        assert vote.labels.equal(vote.scores.argmax(-1))
    if method == "test":
        target = torch.cat([r.target for r in results if r.condition == "audio+video"])
        labels = torch.cat([r.labels for r in results if r.condition == "audio+video"])
        expected = f1_score(target, labels, labels=range(CLASSES), average="macro", zero_division=0)
        assert float(trainer.callback_metrics["test/f1"]) == pytest.approx(expected, abs=1e-6)


def test_a_file_s_smoothing_leaves_out_what_was_given_neither_face_nor_voice(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    loader = make_loader({"d": 33})
    for batch in loader.dataset:
        batch["audio_mask"][:] = batch["frame"] % 3 == 0
    _, _, (plain,) = evaluate(loader, tmp_path, "predict")
    # All classes are about as likely, so that little decides.
    decoder = Decoder(Smoothing("box", 9), tuple((-plain.scores.log().mean(0)).tolist()))
    Postprocessing(EXPRESSIONS, decoder).write(path)
    _, _, (result,) = evaluate(loader, tmp_path, "predict", path)
    neither = ~(result.video_mask | result.audio_mask)
    assert result.answered.equal(~neither)
    assert neither.any()
    expected = decoder(result.scores, answered=~neither)[1]
    assert result.labels.equal(expected)
    assert not expected.equal(decoder(result.scores)[1])
    assert plain.labels.equal(plain.scores.argmax(-1))


def test_a_file_for_other_classes_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    Postprocessing(("calm", "glad"), Decoder()).write(tmp_path / "p.yaml")
    with pytest.raises(InputError, match=r"p.yaml: was fitted for the classes calm,glad"):
        evaluate(make_loader({}), tmp_path, postprocess=tmp_path / "p.yaml")


def test_each_present_frame_passes_the_visual_encoder_once(tmp_path: Path) -> None:
    loader = make_loader(LENGTHS)
    module, _, _ = evaluate(loader, tmp_path, "test")
    pictures = [p for batch in loader.dataset for p in batch["video"][batch["video_mask"]]]
    assert module.visual_encoder.seen == Counter(picture.numpy().tobytes() for picture in pictures)
    assert set(module.visual_encoder.seen.values()) == {1}


@pytest.mark.parametrize("per_batch", [1, 3, 100])
def test_batches_do_not_matter(tmp_path: Path, per_batch: int) -> None:
    _, _, expected = evaluate(make_loader(LENGTHS), tmp_path)
    _, _, results = evaluate(make_loader(LENGTHS, per_batch=per_batch), tmp_path)
    for one, other in zip(expected, results, strict=True):
        assert one.video_id == other.video_id
        torch.testing.assert_close(one.scores, other.scores, atol=1e-6, rtol=0)


def test_chunks_do_not_matter(tmp_path: Path) -> None:
    _, _, expected = evaluate(make_loader(LENGTHS, chunk=8), tmp_path)
    _, _, results = evaluate(make_loader(LENGTHS, chunk=16), tmp_path)
    for one, other in zip(expected, results, strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-6, rtol=0)


def test_a_video_cut_short_is_scored_as_far_as_it_was_seen(tmp_path: Path) -> None:
    _, _, results = evaluate(make_loader(LENGTHS, per_batch=1), tmp_path, limit_val_batches=2)
    assert [(result.video_id, len(result.target)) for result in results] == [("a", 16)]


def test_test_scores_each_modality_alone(tmp_path: Path) -> None:
    _, _, results = evaluate(make_loader({"a": 20}), tmp_path, "test")
    scores = {result.condition: result.scores for result in results}
    assert list(scores) == ["audio+video", "video only", "audio only"]
    whole = make_loader({"a": 20})
    for batch in whole.dataset:
        batch["audio_mask"][:] = False
    _, _, silent = evaluate(whole, tmp_path)
    torch.testing.assert_close(scores["video only"], silent[0].scores)
    assert (scores["audio only"] - scores["audio+video"]).abs().max() > 1e-3


@pytest.mark.parametrize("method", ["validate", "predict"])
def test_other_stages_score_one_condition(tmp_path: Path, method: str) -> None:
    _, _, results = evaluate(make_loader(LENGTHS), tmp_path, method)
    assert {result.condition for result in results} == {"audio+video"}
    assert [result.video_id for result in results] == list(LENGTHS)


@pytest.mark.parametrize(("precision", "autocast"), [("32-true", {False}), ("bf16-mixed", {True})])
def test_the_head_runs_under_the_trainers_precision(tmp_path: Path, precision: str, autocast: set) -> None:
    module, _, _ = evaluate(make_loader(LENGTHS), tmp_path, precision=precision)
    assert module.fusion.autocast_seen == autocast


def test_a_strategy_that_shards_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abaw.callbacks.inference._SHARDED", (SingleDeviceStrategy,))
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    with pytest.raises(InputError, match=r"SingleDeviceStrategy shares out the weights.*strategy ddp"):
        evaluate(make_loader(LENGTHS), tmp_path)


def test_a_batch_that_mixes_videos_is_refused(tmp_path: Path) -> None:
    loader = make_loader({"a": 16})
    loader.dataset[0]["video_id"] = ["a", "b"]
    with pytest.raises(ValueError, match="one video"):
        evaluate(loader, tmp_path)
