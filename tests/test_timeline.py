import itertools
import random

import numpy as np
import pytest
import torch

from abaw.predict import Stretch, VideoPrediction


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


def make(labels, face, voice, time=None, scores=None, covered=None):
    n = len(labels)
    labels = torch.tensor(labels)
    if scores is None:
        scores = torch.nn.functional.one_hot(labels.clamp_min(0), 3) * 0.7 + 0.1
    time = torch.arange(n) / 10 if time is None else time
    covered = torch.ones(n, dtype=torch.bool) if covered is None else covered
    masks = torch.as_tensor(face).bool(), torch.as_tensor(voice).bool()
    return VideoPrediction("v", ["a", "b", "c"], time.double(), scores, labels, covered, *masks)


def draw(seed):
    """A video of short stretches, uneven in time, some of whose frames have no answer or no score."""
    rng = random.Random(seed)
    n = rng.randint(1, 40)
    face, voice = ([rng.random() > 0.3 for _ in range(n)] for _ in range(2))
    labels, current = [], 0
    for frame in range(n):
        current = rng.randrange(3) if rng.random() < 0.4 else current
        labels.append(current if face[frame] or voice[frame] else -1)
    time = torch.tensor(list(itertools.accumulate(rng.choice([0.04, 0.08, 0.5]) for _ in range(n))))
    scores = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))
    covered = torch.tensor([rng.random() > 0.2 for _ in range(n)])
    return make(labels, face, voice, time, scores, covered)


def reference(prediction, min_seconds):
    """The rule, read aloud: lists of frames, and a search through all of them after every step."""
    times = prediction.time.tolist()
    gaps = sorted(b - a for a, b in itertools.pairwise(times))
    times.append(times[-1] + (gaps[(len(gaps) - 1) // 2] if gaps else 1 / 30))
    masks = prediction.video_mask.tolist(), prediction.audio_mask.tolist()
    stretches = [[[i], key] for i, key in enumerate(zip(prediction.labels.tolist(), *masks, strict=True))]

    def join():
        for number in range(len(stretches) - 1, 0, -1):
            if stretches[number][1] == stretches[number - 1][1]:
                stretches[number - 1][0] += stretches.pop(number)[0]

    def length(stretch):
        return round(times[stretch[0][-1] + 1] - times[stretch[0][0]], 5)

    join()
    while len(stretches) > 1 and min(map(length, stretches)) < min_seconds:
        lengths = [length(stretch) for stretch in stretches]
        at = lengths.index(min(lengths))
        near = [number for number in (at - 1, at + 1) if 0 <= number < len(stretches)]
        same = [number for number in near if stretches[number][1][0] == stretches[at][1][0]]
        candidates = same if len(same) == 1 else near
        best = max(lengths[number] for number in candidates)
        to = next(number for number in candidates if lengths[number] == best)
        stretches[to][0] = sorted(stretches[to][0] + stretches[at][0])
        del stretches[at]
        join()
    told = []
    for frames, (label, face, voice) in stretches:
        answered = [
            i
            for i in frames
            if prediction.covered[i] and (prediction.video_mask[i] or prediction.audio_mask[i])
        ]
        score = sum(float(prediction.scores[i, label]) for i in answered) / max(len(answered), 1)
        name = None if label == -1 else prediction.class_names[label]
        start, end = times[frames[0]], times[frames[-1] + 1]
        told.append((start, end, name, 0.0 if label == -1 else score, face, voice))
    return told


@pytest.mark.parametrize("min_seconds", [0.0, 0.05, 0.2, 1.0, 99.0])
def test_short_stretches_are_absorbed_as_the_rule_says(min_seconds):
    for seed in range(60):
        prediction = draw(seed)
        found, expected = prediction.timeline(min_seconds=min_seconds), reference(prediction, min_seconds)
        assert [stretch[:3] + stretch[4:] for stretch in found] == [
            stretch[:3] + stretch[4:] for stretch in expected
        ]
        assert [s.score for s in found] == pytest.approx([s[3] for s in expected], abs=1e-6)
        assert all(before.end == after.start for before, after in itertools.pairwise(found))
        if len(found) > 1:
            assert min(stretch.end - stretch.start for stretch in found) >= min_seconds - 1e-5


def test_a_short_stretch_goes_to_the_neighbour_with_its_expression_though_the_other_is_longer():
    prediction = make([0, 0, 0, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0, 0, 0])
    assert [(s.start, s.end, s.expression, s.face) for s in prediction.timeline(min_seconds=0.15)] == [
        (0.0, pytest.approx(0.3), "a", True),
        (pytest.approx(0.3), pytest.approx(0.8), "b", True),
    ]


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.2, 0.3, 0.55, 1.7, 50.0])
def test_smoothing_takes_the_most_frequent_decision_around_a_frame(seconds):
    radius = {0.0: 0, 0.1: 0, 0.2: 1, 0.3: 1, 0.55: 2, 1.7: 8, 50.0: 250}[seconds]
    for seed in range(30):
        drawn = draw(seed)
        labels = drawn.labels.tolist()
        n = len(labels)
        prediction = make(
            labels, drawn.video_mask, drawn.audio_mask, torch.arange(n) * 0.1 if n > 1 else None
        )
        expected = []
        for frame, own in enumerate(labels):
            around = [label for label in labels[max(frame - radius, 0) : frame + radius + 1] if label >= 0]
            if own < 0 or n == 1:
                expected.append(own)
                continue
            most = max(map(around.count, around))
            tied = [label for label in range(3) if around.count(label) == most]
            expected.append(own if own in tied else tied[0])
        found = []
        for stretch in prediction.timeline(smooth=seconds):
            count = round((stretch.end - stretch.start) / 0.1) if n > 1 else 1
            found += [-1 if stretch.expression is None else "abc".index(stretch.expression)] * count
        assert found == expected


def test_five_frames_are_a_fifth_of_a_second_wherever_they_lie():
    # As predict_video gives them: a clip's start, and float32 seconds from it.
    time = (torch.arange(100) / 25 + 0.1).to(torch.float32).double() - 0.1
    labels = [frame // 5 % 2 for frame in range(100)]
    prediction = make(labels, [1] * 100, [1] * 100, time)
    lengths = [stretch.end - stretch.start for stretch in prediction.timeline()]
    assert min(lengths) < 0.2 < max(lengths)
    assert len(prediction.timeline(min_seconds=0.2)) == 20
    (stretch,) = prediction.timeline(min_seconds=0.21)
    assert stretch.expression == "b"  # the first of equals went first, to the one neighbour that it has


def test_smoothing_does_not_reach_over_a_pause():
    # Four pictures, then a second without any: seconds are the ruler, not pictures.
    time = torch.tensor([burst + picture * 0.04 for burst in range(3) for picture in range(4)])
    labels = [0, 0, 0, 1, 2, 2, 1, 1, 0, 0, 0, 0]
    prediction = make(labels, [1] * 12, [1] * 12, time)
    found = [(round(s.start, 2), s.expression) for s in prediction.timeline(smooth=0.4)]
    assert found == [(0.0, "a"), (1.0, "c"), (1.08, "b"), (2.0, "a")]


def test_flicker_goes_and_the_decision_of_a_tuned_run_stays():
    # What is decided is not what scores best.
    labels = [1, 1, 2, 1, 1, 1, 0, 1, 1]
    scores = torch.tensor([[0.9, 0.06, 0.04]]).expand(9, 3)
    prediction = make(labels, [1] * 9, [1] * 9, scores=scores)
    assert len(prediction.timeline()) == 5
    (stretch,) = prediction.timeline(smooth=0.3)
    assert stretch.expression == "b"
    assert stretch.score == pytest.approx(0.06)
    (stretch,) = prediction.timeline(min_seconds=0.15)
    assert stretch.expression == "b"


@pytest.mark.parametrize("argument", ["min_seconds", "smooth"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_what_is_no_length_is_refused(argument, value):
    with pytest.raises(ValueError, match=f"{argument} is a number of seconds"):
        make([0], [1], [1]).timeline(**{argument: value})


def test_hours_of_flicker_take_seconds():
    labels = np.random.default_rng(0).integers(0, 3, 60_000)
    prediction = make(labels.tolist(), [1] * len(labels), [1] * len(labels))
    timeline = prediction.timeline(min_seconds=1.0, smooth=0.3)
    assert isinstance(timeline[0], Stretch)
    assert min(stretch.end - stretch.start for stretch in timeline) >= 1.0
