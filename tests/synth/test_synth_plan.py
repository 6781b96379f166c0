import re
from collections import Counter

import numpy as np
import pytest

from abaw.errors import InputError
from abaw.synth.plan import draw_plan


@pytest.mark.parametrize(("videos", "split"), [(40, (24, 10, 6)), (12, (7, 3, 2)), (8, (4, 2, 2))])
def test_videos_are_split(videos, split):
    persons = Counter(r.split for r in draw_plan(0, videos, 60) for _ in r.persons)
    assert (persons["train"], persons["validation"], persons["test"]) == split


@pytest.mark.parametrize(("videos", "frames"), [(40, 300), (24, 200), (12, 120), (8, 40)])
@pytest.mark.parametrize("seed", range(4))
def test_every_class_is_annotated_in_training_and_validation(videos, frames, seed):
    plan = draw_plan(seed, videos, frames)
    for split in ("train", "validation"):
        labels = np.concatenate([p.labels for r in plan if r.split == split for p in r.persons])
        assert set(labels) - {-1} == set(range(8))


def test_names_are_unique_and_not_in_order():
    plan = draw_plan(0, 40, 60)
    assert len({person.name for recording in plan for person in recording.persons}) == 40
    numbers = [int(re.findall(r"\d+", recording.name)[0]) for recording in plan]
    assert numbers != sorted(numbers)


def test_default_size_deals_every_trap_to_training_and_validation():
    plan = draw_plan(0, 40, 300)
    for split in ("train", "validation"):
        part = [r for r in plan if r.split == split]
        forms = [r.form for r in part]
        assert any(form.sound_start > 0 for form in forms)
        assert any(form.picture_start > 0 for form in forms)
        assert any(form.sound_excess > 0 for form in forms)
        assert any(form.sound_excess < 0 for form in forms)
        assert any(form.variable for form in forms)
        assert {form.suffix for form in forms} == {".mp4", ".avi"}
        assert {float(r.fps) for r in part} >= {15, 24, 25, 30}
        assert any((p.labels == -1).any() for r in part for p in r.persons)
    assert [r.split for r in plan if r.form.sound_codec is None] == ["train"]
    pairs = {tuple(p.name.removeprefix(r.name) for p in r.persons) for r in plan if len(r.persons) > 1}
    assert pairs == {("_left", "_right"), ("", "_right")}


def test_persons_who_share_a_recording_feel_nearly_the_same():
    shared = [r.persons for r in draw_plan(0, 40, 300) if len(r.persons) == 2]
    assert shared
    for first, second in shared:
        lags = [lag for lag in range(1, 5) if (first.expressions[:-lag] == second.expressions[lag:]).all()]
        assert lags


@pytest.mark.parametrize(("videos", "frames"), [(7, 300), (40, 39), (0, 0), (-1, 300)])
def test_too_small_is_refused_in_words(videos, frames):
    with pytest.raises(InputError, match=r"too small.*--videos 8 --frames 40"):
        draw_plan(0, videos, frames)


@pytest.mark.parametrize("weakest", [-0.1, 1.1])
def test_strength_is_a_share(weakest):
    with pytest.raises(InputError, match=f"--weakest .* not {weakest}"):
        draw_plan(0, 8, 40, weakest)
