import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from abaw.data.degradations import blank_frames, drop_modality, freeze_frames, lose_frames, shift_sound

RATE = 16_000
NAMES = {"video": ("video", "visual_features"), "audio": ("audio", "audio_features")}
# Whether "a" loses its faces in 12 frames at a rate of 0.5 and seed 0; without a span, and with one of 3.
LOST = [[1, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 0], [0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1]]
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "drop": lambda batch: drop_modality(batch, "audio"),
    "lose": lambda batch: lose_frames(batch, "video", 0.5, seed=3),
    "lose sound": lambda batch: lose_frames(batch, "audio", 0.5, span=2),
    "blank": lambda batch: blank_frames(batch, "audio", 0.5),
    "freeze": lambda batch: freeze_frames(batch, "video", 0.5, span=2),
    "freeze sound": lambda batch: freeze_frames(batch, "audio", 0.5),
    "shift": lambda batch: shift_sound(batch, 70.0),
}


def make(
    *names: str, frames: int = 12, padding: int = 2, start: int = 0, fps: float = 25.0
) -> dict[str, Any]:
    """A batch of pictures and sound: a value says which frame and which sample it is."""
    total = frames + padding
    frame = torch.arange(start, start + total).masked_fill(torch.arange(total) >= frames, -1)
    time = torch.where(frame >= 0, 0.5 + (frame - start) / fps, 0.0)
    there = frame >= 0
    samples = int(RATE * (1.0 + frames / fps))
    rows = len(names)
    picture = (frame + 1).to(torch.uint8)[:, None, None, None].expand(total, 3, 2, 2)
    return {
        "video": (picture * there[:, None, None, None]).expand(rows, -1, -1, -1, -1).clone(),
        "video_mask": there.expand(rows, -1).clone(),
        "audio": torch.arange(1.0, samples + 1).expand(rows, -1).clone(),
        "audio_mask": there.expand(rows, -1).clone(),
        "time": time.expand(rows, -1).clone(),
        "target": torch.where(there, 3, -1).expand(rows, -1).clone(),
        "frame": frame.expand(rows, -1).clone(),
        "video_id": list(names),
        "audio_start": [start / fps - 0.5] * rows,
        "num_frames": [start + frames] * rows,
    }


def features(
    *names: str, frames: int = 12, padding: int = 2, start: int = 0, fps: float = 25.0
) -> dict[str, Any]:
    """The same of features that were computed before; a value is the frame's own time, plus 1."""
    batch = make(*names, frames=frames, padding=padding, start=start, fps=fps)
    del batch["video"], batch["audio"]
    value = torch.where(batch["frame"] >= 0, 1 + batch["frame"] / fps, 0.0)
    return batch | {
        "visual_features": value[..., None].repeat(1, 1, 3),
        "audio_features": value[..., None].repeat(1, 1, 2),
    }


def lost_of(batch: dict[str, Any], modality: str, rate: float, **options: Any) -> Tensor:
    """Which of the frames that were present a loss takes."""
    mask = f"{modality}_mask"
    return batch[mask] & ~lose_frames(batch, modality, rate, **options)[mask]


def copy(batch: dict[str, Any]) -> dict[str, Any]:
    return {key: value.clone() if isinstance(value, Tensor) else list(value) for key, value in batch.items()}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(torch.equal(v, other[k]) if isinstance(v, Tensor) else v == other[k] for k, v in one.items())


@pytest.mark.parametrize("kind", [make, features])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_batch_given_is_never_modified(name: str, kind: Callable[..., dict[str, Any]]) -> None:
    batch = kind("a", "b")
    kept = copy(batch)
    changed = FUNCTIONS[name](batch)
    assert equal(batch, kept)
    assert changed.keys() == batch.keys()
    assert not equal(changed, batch)
    assert all(changed[key].dtype == value.dtype for key, value in batch.items() if isinstance(value, Tensor))
    for key in ("time", "frame", "target", "video_id", "audio_start", "num_frames"):
        assert changed[key] is batch[key]


@pytest.mark.parametrize("kind", [make, features])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_padding_stays_absent_and_empty(name: str, kind: Callable[..., dict[str, Any]]) -> None:
    changed = FUNCTIONS[name](kind("a", frames=5, padding=7))
    padding = changed["frame"] < 0
    for key in ("video_mask", "audio_mask", "video", "visual_features", "audio_features"):
        if key in changed:
            assert not changed[key][padding].any()


@pytest.mark.parametrize("kind", [make, features])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_sample_depends_on_its_batch(name: str, kind: Callable[..., dict[str, Any]]) -> None:
    together = FUNCTIONS[name](kind("a", "b", "c"))
    for row, video_id in enumerate("abc"):
        alone = FUNCTIONS[name](kind(video_id))
        for key, value in alone.items():
            if isinstance(value, Tensor):
                assert torch.equal(value[0], together[key][row])


@pytest.mark.parametrize("kind", [make, features])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_batch_of_padding_is_left_as_it_is(name: str, kind: Callable[..., dict[str, Any]]) -> None:
    empty = kind("", frames=0, padding=4)
    changed = FUNCTIONS[name](empty)
    assert not changed["video_mask"].any()
    assert not changed["audio_mask"].any()
    assert all(value.isfinite().all() for value in changed.values() if isinstance(value, Tensor))


@pytest.mark.parametrize("kind", [make, features])
@pytest.mark.parametrize("modality", ["video", "audio"])
def test_drops_a_modality_and_says_so(modality: str, kind: Callable[..., dict[str, Any]]) -> None:
    batch = kind("a")
    changed = drop_modality(batch, modality)
    assert not changed[f"{modality}_mask"].any()
    other = {"video": "audio", "audio": "video"}[modality]
    for key in NAMES[modality]:
        assert key not in changed or not changed[key].any()
    for key in (*NAMES[other], f"{other}_mask"):
        assert changed.get(key) is batch.get(key)


@pytest.mark.parametrize("span", [None, 1, 4, 30])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_frames_are_lost_at_the_rate(rate: float, span: int | None) -> None:
    lost = np.concatenate(
        [
            lost_of(features(f"v{k}", frames=300), "video", rate, span=span)[0, :300].numpy()
            for k in range(100)
        ]
    ).reshape(100, 300)
    # Frames of a stretch go together: a video of 300 frames holds that many draws at the least.
    draws = 100 * 300 / (span or 1)
    assert abs(lost.mean() - rate) <= 5 * math.sqrt(rate * (1 - rate) / draws)
    # Also at the beginning and at the end.
    for part in (lost[:, 0], lost[:, -1]):
        assert abs(part.mean() - rate) <= 5 * math.sqrt(rate * (1 - rate) / 100)


def runs(lost: list[bool]) -> Iterator[tuple[int, int]]:
    begin = None
    for place, value in enumerate([*lost, False]):
        if value and begin is None:
            begin = place
        if not value and begin is not None:
            yield begin, place - begin
            begin = None


def test_spans_are_consecutive_frames() -> None:
    found = set()
    for k in range(50):
        lost = lost_of(features(f"v{k}", frames=400), "video", 0.2, span=10)[0, :400].tolist()
        for begin, length in runs(lost):
            inside = begin > 0 and begin + length < 400
            assert length % 10 == 0 or not inside
            found.add(length)
        assert sum(lost) / 400 == pytest.approx(0.2, abs=0.05)
    assert 10 in found


def test_frames_on_their_own_are_independent() -> None:
    lost = lost_of(features("v", frames=20_000), "video", 0.5)[0, :20_000].double()
    neighbours = ((lost[1:] - 0.5) * (lost[:-1] - 0.5)).mean().item()
    assert abs(neighbours) <= 5 * 0.25 / math.sqrt(20_000)


def test_what_is_lost_at_a_rate_is_lost_at_a_higher_one() -> None:
    batch = features("v", frames=500)
    fewer, more = lost_of(batch, "video", 0.3), lost_of(batch, "video", 0.4)
    assert not (fewer & ~more).any()
    assert fewer.sum() < more.sum()


def test_losses_differ_by_seed_video_and_modality() -> None:
    batch = features("a", "b", frames=100)
    lost = lost_of(batch, "video", 0.5)
    assert torch.equal(lost, lost_of(batch, "video", 0.5))
    assert not torch.equal(lost[0], lost[1])
    assert not torch.equal(lost, lost_of(batch, "audio", 0.5))
    assert not torch.equal(lost, lost_of(batch, "video", 0.5, seed=1))
    # What a seed means is settled: figures that were published can be found again.
    alone, spans = (lost_of(features("a", padding=0), "video", 0.5, span=span) for span in (None, 3))
    assert [alone[0].int().tolist(), spans[0].int().tolist()] == LOST


@pytest.mark.parametrize("span", [None, 7])
@pytest.mark.parametrize("modality", ["video", "audio"])
def test_windows_of_a_video_lose_the_same_frames(modality: str, span: int | None) -> None:
    whole = lost_of(features("v", frames=90), modality, 0.4, span=span)[0, :90]
    for start in (0, 13, 60):
        part = lost_of(features("v", frames=30, start=start), modality, 0.4, span=span)[0, :30]
        assert torch.equal(part, whole[start : start + 30])
    stepped = features("v", frames=90, padding=0)
    stepped = {key: value[:, ::3] if isinstance(value, Tensor) else value for key, value in stepped.items()}
    assert torch.equal(lost_of(stepped, modality, 0.4, span=span)[0], whole[::3])


@pytest.mark.parametrize("lose", [lose_frames, blank_frames])
def test_pictures_that_are_lost_are_black(lose: Callable[..., Any]) -> None:
    batch = make("a")
    batch["video_mask"][0, 4] = False
    batch["video"][0, 4] = 0
    lost = lost_of(batch, "video", 0.5)
    changed = lose(batch, "video", 0.5)
    assert lost.any()
    assert torch.equal(changed["video"], batch["video"] * ~lost[..., None, None, None])
    expected = batch["video_mask"] & ~lost if lose is lose_frames else batch["video_mask"]
    assert torch.equal(changed["video_mask"], expected)
    assert changed["audio"] is batch["audio"]
    assert changed["audio_mask"] is batch["audio_mask"]


@pytest.mark.parametrize("modality", ["video", "audio"])
@pytest.mark.parametrize("lose", [lose_frames, blank_frames])
def test_features_that_are_lost_are_zero(lose: Callable[..., Any], modality: str) -> None:
    batch = features("a", "b")
    key, mask = NAMES[modality][1], f"{modality}_mask"
    lost = lost_of(batch, modality, 0.5, span=2, seed=1)
    changed = lose(batch, modality, 0.5, span=2, seed=1)
    assert lost.any()
    assert torch.equal(changed[key], batch[key] * ~lost[..., None])
    assert torch.equal(changed[mask], batch[mask] & ~lost if lose is lose_frames else batch[mask])


@pytest.mark.parametrize("lose", [lose_frames, blank_frames])
def test_sound_falls_silent_around_the_frames_that_are_lost(lose: Callable[..., Any]) -> None:
    batch = make("a", padding=3, fps=30.0)
    lost = lost_of(batch, "audio", 0.5)
    changed = lose(batch, "audio", 0.5)
    assert torch.equal(
        changed["audio_mask"], batch["audio_mask"] & ~lost if lose is lose_frames else batch["audio_mask"]
    )
    assert lost.any()
    times = batch["time"][0, :12].tolist()
    for sample in range(0, batch["audio"].shape[1], 7):
        distances = [abs(time - sample / RATE) for time in times]
        frame = distances.index(min(distances))
        assert changed["audio"][0, sample] == (0 if lost[0, frame] else sample + 1)


@pytest.mark.parametrize("modality", ["video", "audio"])
@pytest.mark.parametrize("rate", [0.3, 0.8, 1.0])
def test_frozen_features_repeat_the_last_frame(rate: float, modality: str) -> None:
    batch = features("a", "b", "c", frames=30)
    key, mask = NAMES[modality][1], f"{modality}_mask"
    absent = torch.zeros_like(batch[mask])
    absent[:, :2] = absent[:, 9:12] = absent[2] = True
    batch[mask] &= ~absent
    batch[key][absent] = 0
    lost = lost_of(batch, modality, rate)
    changed = freeze_frames(batch, modality, rate)
    assert torch.equal(changed[mask], batch[mask])
    for row in range(3):
        shown = 0.0
        for frame in range(32):
            own = batch[key][row, frame, 0].item()
            if batch[mask][row, frame] and (not lost[row, frame] or shown == 0):
                shown = own
            expected = shown if lost[row, frame] else own
            assert changed[key][row, frame].tolist() == [expected] * batch[key].shape[-1]


def test_frozen_pictures_repeat_the_last_one() -> None:
    batch = make("a")
    lost = lost_of(batch, "video", 0.6)[0].tolist()
    shown, expected = 1, []
    for frame in range(12):
        shown = shown if lost[frame] else frame + 1
        expected.append(shown)
    changed = freeze_frames(batch, "video", 0.6)
    assert changed["video"][0, :12, 0, 0, 0].tolist() == expected
    assert torch.equal(changed["video_mask"], batch["video_mask"])


def test_frozen_sound_plays_the_last_frame_again() -> None:
    batch = make("a")
    lost = lost_of(batch, "audio", 0.6, seed=1)[0].tolist()
    changed = freeze_frames(batch, "audio", 0.6, seed=1)
    assert torch.equal(changed["audio_mask"], batch["audio_mask"])
    shown = 0
    for frame in range(12):
        shown = shown if lost[frame] else frame
        middle, source = (round((0.5 + k / 25) * RATE) for k in (frame, shown))
        for offset in (-300, 0, 300):
            assert changed["audio"][0, middle + offset] == batch["audio"][0, source + offset]


@pytest.mark.parametrize("milliseconds", [0, 40, 200, -120])
def test_shifted_features_are_those_of_another_moment(milliseconds: int) -> None:
    batch = features("a", frames=20)
    changed = shift_sound(batch, milliseconds)
    steps = milliseconds // 40
    for frame in range(20):
        source = frame - steps
        known = 0 <= source < 20
        assert bool(changed["audio_mask"][0, frame]) == known
        expected = batch["audio_features"][0, source].tolist() if known else [0.0, 0.0]
        assert changed["audio_features"][0, frame].tolist() == pytest.approx(expected, abs=2e-5)
    assert changed["visual_features"] is batch["visual_features"]
    assert changed["video_mask"] is batch["video_mask"]


def test_features_are_shifted_by_time_not_by_frames() -> None:
    # A rate that varies: the features are their own time, and so is a straight line between two.
    time = torch.tensor([[0.0, 0.03, 0.1, 0.12, 0.2, 0.35, 0.36, 0.5]], dtype=torch.float64)
    there = torch.ones(1, 8, dtype=torch.bool)
    batch = {
        "audio_features": 10 + time[..., None],
        "audio_mask": there,
        "video_mask": there,
        "time": time,
        "frame": torch.arange(8)[None],
        "video_id": ["v"],
    }
    for milliseconds in (-133.0, -20.0, 55.0, 100.0):
        changed = shift_sound(batch, milliseconds)
        heard = time - milliseconds / 1000
        known = (heard >= 0) & (heard <= 0.5)
        assert torch.equal(changed["audio_mask"], known)
        torch.testing.assert_close(
            changed["audio_features"][..., 0], torch.where(known, 10 + heard, 0), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("absent", [0.0, math.nan])
def test_shifted_features_do_not_mix_with_absent_ones(absent: float) -> None:
    batch = features("a", frames=10, padding=0)
    batch["audio_mask"][0, 5] = False
    batch["audio_features"][0, 5] = absent
    changed = shift_sound(batch, 10.0)  # a quarter of a frame: frame k hears k - 0.25
    assert changed["audio_mask"][0].tolist() == [k not in (0, 5) for k in range(10)]
    own = batch["audio_features"][0, :, 0]
    expected = [0.0, *(0.25 * own[k - 1] + 0.75 * own[k] for k in range(1, 10))]
    expected[5], expected[6] = 0.0, own[6]
    assert changed["audio_features"][0, :, 0].tolist() == pytest.approx(
        [float(x) for x in expected], abs=1e-6
    )


@pytest.mark.parametrize("milliseconds", [0, 100, -250, 3000])
def test_sound_is_shifted_by_samples(milliseconds: int) -> None:
    batch = make("a")
    changed = shift_sound(batch, milliseconds)
    count, shift = batch["audio"].shape[1], 16 * milliseconds
    expected = torch.tensor([s - shift + 1 if 0 <= s - shift < count else 0 for s in range(count)])
    assert torch.equal(changed["audio"][0], expected.float())
    heard = batch["time"] - milliseconds / 1000
    assert torch.equal(changed["audio_mask"], batch["audio_mask"] & (heard >= 0) & (heard < count / RATE))
    assert changed["video"] is batch["video"]


def test_shifted_sound_takes_its_gaps_along() -> None:
    batch = make("a", padding=0)
    batch["audio_mask"][0, 3:5] = False
    assert shift_sound(batch, 80)["audio_mask"][0].tolist() == [k not in (5, 6) for k in range(12)]
    assert shift_sound(batch, -80)["audio_mask"][0].tolist() == [k not in (1, 2) for k in range(12)]


@pytest.mark.parametrize("lose", [lose_frames, blank_frames, freeze_frames])
def test_refuses_wrong_arguments(lose: Callable[..., Any]) -> None:
    for rate in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"rate must be (at least 0|at most 1|a finite number)"):
            lose(features("a"), "video", rate)
    with pytest.raises(ValueError, match="span must be at least 1"):
        lose(features("a"), "video", 0.5, span=0)


class InverseInsteadOfDivision(TorchFunctionMode):
    """What PyTorch's CUDA kernels make of a division by a number: a product with its inverse, rounded."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (Tensor.div, Tensor.true_divide, Tensor.__truediv__) and isinstance(
            args[1], int | float
        ):
            return args[0] * (1 / torch.tensor(args[1], dtype=args[0].dtype)).item()
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [make, features])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_last_digit_of_a_division_decides_nothing(name: str, kind: Callable[..., dict[str, Any]]) -> None:
    expected = FUNCTIONS[name](kind("a", "b"))
    with InverseInsteadOfDivision():
        changed = FUNCTIONS[name](kind("a", "b"))
    assert equal(expected, changed)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [make, features])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_devices_agree(name: str, kind: Callable[..., dict[str, Any]]) -> None:
    batch = kind("a", "b")
    moved = {key: value.cuda() if isinstance(value, Tensor) else value for key, value in batch.items()}
    expected, changed = FUNCTIONS[name](batch), FUNCTIONS[name](moved)
    for key, value in expected.items():
        if isinstance(value, Tensor):
            assert changed[key].is_cuda
            torch.testing.assert_close(changed[key].cpu(), value)
