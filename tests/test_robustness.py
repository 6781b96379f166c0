from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, confusion_matrix, f1_score

from abaw.engine import VideoFeatures
from abaw.metrics import bootstrap_interval
from abaw.robustness import DAMAGES, LostFrames, ShiftedSound, area_under_curve, summarise

RATES = [0.1, 0.3, 0.5, 0.7, 0.9]
LOSSES = ["lost at random", "lost in stretches", "zeroed unannounced", "frozen unannounced"]
STREAMS = {"video": "visual", "audio": "audio"}
NAMES = ["calm", "glad", "sad"]


def make(frames: int = 12_000, fps: float = 25.0, name: str = "v") -> VideoFeatures:
    """A video whose features are the frame's number, counted from 1; every seventh shows no face."""
    number = torch.arange(1.0, frames + 1)
    face = torch.arange(frames) % 7 != 6
    return VideoFeatures(
        video_id=name,
        visual=(number * face)[:, None].repeat(1, 3),
        audio=number[:, None].repeat(1, 2),
        video_mask=face,
        audio_mask=torch.ones(frames, dtype=torch.bool),
        time=torch.arange(frames, dtype=torch.float64) / fps + 3,
        target=torch.arange(frames) % 8,
        lead=0.5,
    )


def equal(one: VideoFeatures, other: VideoFeatures, *names: str) -> bool:
    names = names or tuple(field.name for field in fields(one))
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def runs(lost: torch.Tensor) -> list[int]:
    """Lengths of the stretches of True that neither begin nor end the video."""
    edges = np.flatnonzero(np.diff(lost.numpy().astype(int)))
    return [int(b - a) for a, b in pairwise(edges) if lost[a + 1]]


def lost_in(video: VideoFeatures, modality: str, loss: str, rate: float, seed: int = 0) -> torch.Tensor:
    """Which frames of a stream are not what they were."""
    damaged = LostFrames(modality, loss, rate).apply(video, seed)
    features = STREAMS[modality]
    return (getattr(damaged, features) != getattr(video, features)).any(-1)


def test_everything_that_is_asked_is_done_under_a_name_of_its_own() -> None:
    losses = [damage for damage in DAMAGES if isinstance(damage, LostFrames)]
    assert {(d.modality, d.loss, d.severity) for d in losses} == {
        (modality, loss, rate) for modality in STREAMS for loss in LOSSES for rate in RATES
    }
    shifts = [damage for damage in DAMAGES if isinstance(damage, ShiftedSound)]
    assert sorted(d.severity for d in shifts) == [-500, -200, -100, 100, 200, 500]
    assert len({damage.name for damage in DAMAGES}) == len(losses) + len(shifts) == 46
    assert {damage.needs for damage in losses} == {("video",), ("audio",)}
    assert {tuple(sorted(damage.needs)) for damage in shifts} == {("audio", "video")}


@pytest.mark.parametrize("modality", STREAMS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_a_share_of_one_stream_is_lost_and_nothing_else(modality: str, loss: str, rate: float) -> None:
    video, features, mask = make(), STREAMS[modality], f"{modality}_mask"
    before = make()
    damaged = LostFrames(modality, loss, rate).apply(video, seed=0)
    assert equal(video, before), "what was given is as it was"
    (other,) = STREAMS.keys() - {modality}
    assert equal(video, damaged, "video_id", "time", "target", "lead", STREAMS[other], f"{other}_mask")
    present = getattr(video, mask)
    lost = lost_in(video, modality, loss, rate)
    assert float(lost[present].float().mean()) == pytest.approx(rate, abs=0.03)
    announced = not loss.endswith("unannounced")
    assert torch.equal(getattr(damaged, mask), present & ~lost if announced else present)
    if loss != "frozen unannounced":
        assert not getattr(damaged, features)[lost].any()


@pytest.mark.parametrize("fps", [25.0, 50.0])
def test_stretches_last_a_second_and_are_the_same_announced_or_not(fps: float) -> None:
    video = make(fps=fps)
    in_stretches = lost_in(video, "audio", "lost in stretches", 0.3)
    lengths = runs(in_stretches)
    assert len(lengths) > 20
    assert min(lengths) == fps
    assert sum(length == fps for length in lengths) > len(lengths) * 0.7, "two may touch"
    assert torch.equal(in_stretches, lost_in(video, "audio", "zeroed unannounced", 0.3))
    # Frozen, the first frame repeats itself.
    assert torch.equal(in_stretches[1:], lost_in(video, "audio", "frozen unannounced", 0.3)[1:])
    assert min(runs(lost_in(video, "audio", "lost at random", 0.3))) == 1


def test_frozen_frames_repeat_the_last_one_before_them() -> None:
    video = make(400)
    frozen = LostFrames("audio", "frozen unannounced", 0.5).apply(video, seed=3)
    lost = ~LostFrames("audio", "lost in stretches", 0.5).apply(video, seed=3).audio_mask
    expected, last = [], 1.0
    for frame in range(400):
        last = last if lost[frame] else frame + 1.0
        expected.append(last)
    assert lost.any()
    assert frozen.audio[:, 0].tolist() == expected


def test_what_is_lost_follows_from_seed_and_video() -> None:
    lost = lost_in(make(), "audio", "lost at random", 0.5, seed=1)
    assert torch.equal(lost, lost_in(make(), "audio", "lost at random", 0.5, seed=1))
    assert not torch.equal(lost, lost_in(make(), "audio", "lost at random", 0.5, seed=2))
    assert not torch.equal(lost, lost_in(make(name="w"), "audio", "lost at random", 0.5, seed=1))


@pytest.mark.parametrize("delay", [200, -200])
def test_late_sound_is_that_of_earlier_frames(delay: int) -> None:
    video = make(100)
    damaged = ShiftedSound(delay).apply(video, seed=0)
    names = {field.name for field in fields(video)} - {"audio", "audio_mask"}
    assert equal(video, damaged, *names)
    steps = delay // 40
    heard = [frame + 1 - steps if 0 <= frame - steps < 100 else 0 for frame in range(100)]
    assert damaged.audio[:, 0].tolist() == pytest.approx(heard, abs=1e-3)
    assert damaged.audio_mask.tolist() == [bool(frame) for frame in heard]


@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_videos_have_something_to_lose(frames: int) -> None:
    for damage in DAMAGES:
        assert damage.apply(make(frames), seed=0).num_frames == frames
    lost = [lost_in(make(frames, name=str(n)), "audio", "lost in stretches", 0.9).any() for n in range(20)]
    assert 10 < sum(lost) <= 20


def test_the_area_is_that_of_scikit_learn_over_the_width() -> None:
    severity, f1 = [0.0, *RATES], [0.8, 0.7, 0.75, 0.4, 0.2, 0.1]
    assert area_under_curve(severity, f1) == pytest.approx(auc(severity, f1) / 0.9)
    assert area_under_curve([-500, 0, 100], [0.3, 0.3, 0.3]) == pytest.approx(0.3)


def labels_of(seed: int, noise: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth and answers of six videos."""
    generator = np.random.default_rng(seed)
    videos = []
    for _ in range(6):
        truth = generator.integers(0, 3, 50)
        wrong = generator.random(50) < noise
        videos.append((truth, np.where(wrong, generator.integers(0, 3, 50), truth)))
    return videos


ANSWERS = {
    "audio+video": labels_of(0, 0.1),
    "audio only": labels_of(1, 0.6),
    **{f"video lost at random {rate}": labels_of(2 + i, rate) for i, rate in enumerate(RATES)},
    **{f"audio shifted {d:+d} ms": labels_of(9, abs(d) / 600) for d in (500, -500, 100, -200, -100, 200)},
}


def confusions() -> dict[str, torch.Tensor]:
    return {
        name: torch.tensor(np.stack([confusion_matrix(*video, labels=range(3)) for video in videos]))
        for name, videos in ANSWERS.items()
    }


def macro_f1(name: str) -> float:
    truth, answer = (np.concatenate(column) for column in zip(*ANSWERS[name], strict=True))
    return f1_score(truth, answer, labels=range(3), average="macro", zero_division=0)


def test_figures_are_those_of_scikit_learn_and_changes_are_paired() -> None:
    counts = confusions()
    summary = summarise(counts, NAMES)
    assert summary["undamaged"] == "audio+video"
    assert list(summary["results"]) == list(ANSWERS)
    for name, figures in summary["results"].items():
        assert figures["f1"] == pytest.approx(macro_f1(name))
        assert figures["f1_change"] == pytest.approx(macro_f1(name) - macro_f1("audio+video"))
        assert figures["f1_interval"] == bootstrap_interval(counts[name])
        paired = bootstrap_interval(counts[name], baseline=counts["audio+video"])
        assert figures["f1_change_interval"] == paired
    assert summary["results"]["audio+video"]["f1_change_interval"] == (0, 0)


def test_curves_rise_in_severity_from_or_through_none() -> None:
    summary = summarise(confusions(), NAMES)
    curves, results = summary["curves"], summary["results"]
    assert list(curves) == ["video lost at random", "audio shifted"]
    lost = ["audio+video", *(f"video lost at random {rate}" for rate in RATES)]
    late = ["audio shifted -500 ms", "audio shifted -200 ms", "audio shifted -100 ms", "audio+video"]
    late += ["audio shifted +100 ms", "audio shifted +200 ms", "audio shifted +500 ms"]
    severities = [0, *RATES], [-500, -200, -100, 0, 100, 200, 500]
    for curve, names, severity in zip(curves.values(), (lost, late), severities, strict=True):
        assert curve["severity"] == severity
        assert curve["f1"] == pytest.approx([macro_f1(name) for name in names])
        assert curve["f1_interval"] == [results[name]["f1_interval"] for name in names]
        assert curve["area"] == pytest.approx(auc(severity, curve["f1"]) / (severity[-1] - severity[0]))
