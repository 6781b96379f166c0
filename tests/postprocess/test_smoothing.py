import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw.postprocess import smooth


def weights(kind, width):
    """Weight of each offset in frames, in Python's own doubles."""
    if kind == "gaussian":
        radius = math.floor(4 * width + 0.5)
        return {o: math.exp(-(o**2) / (2 * width**2)) for o in range(-radius, radius + 1)}
    return dict.fromkeys(range(-(width // 2), width // 2 + 1), 1.0)


def middle(values):
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def brute_force(scores, kind, width, covered):
    """Frame by frame, offset by offset."""
    rows = scores.double().tolist()
    result = []
    for frame, own in enumerate(rows):
        near = {
            o: rows[frame + o]
            for o in weights(kind, width)
            if 0 <= frame + o < len(rows) and covered[frame + o]
        }
        if not covered[frame]:
            result.append([0.0] * len(own))
        elif kind == "median":
            medians = [middle([row[c] for row in near.values()]) for c in range(len(own))]
            result.append([m / sum(medians) for m in medians] if sum(medians) else own)
        else:
            total = sum(weights(kind, width)[o] for o in near)
            result.append(
                [
                    sum(weights(kind, width)[o] * row[c] for o, row in near.items()) / total
                    for c in range(len(own))
                ]
            )
    return torch.tensor(result, dtype=torch.float64).view(scores.shape)


@settings(max_examples=150, deadline=None)
@given(
    num_frames=st.integers(0, 25),
    num_classes=st.integers(1, 4),
    kind_and_width=st.one_of(
        st.tuples(st.sampled_from(["median", "box"]), st.sampled_from([1, 3, 5, 9, 31])),
        st.tuples(st.just("gaussian"), st.floats(0.2, 6)),
    ),
    share_covered=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    one_hot=st.booleans(),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    seed=st.integers(0, 2**20),
)
def test_smoothing_is_that_of_a_loop_in_float64(
    num_frames, num_classes, kind_and_width, share_covered, one_hot, dtype, seed
):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_frames, num_classes, generator=generator)
    scores = (logits * (1e4 if one_hot else 2)).softmax(-1).to(dtype)
    covered = torch.rand(num_frames, generator=generator) < share_covered
    before = scores.clone()
    smoothed = smooth(scores, *kind_and_width, covered=covered)
    assert smoothed.dtype == dtype
    expected = brute_force(scores, *kind_and_width, covered)
    tolerance = torch.finfo(dtype).eps
    torch.testing.assert_close(smoothed.double(), expected, atol=tolerance, rtol=tolerance)
    assert scores.equal(before)


KINDS = [("median", 7), ("box", 7), ("gaussian", 2.0)]


@pytest.mark.parametrize(("kind", "width"), KINDS)
def test_results_are_probabilities_up_to_the_ends(kind, width):
    smoothed = smooth(torch.randn(40, 5).softmax(-1), kind, width)
    torch.testing.assert_close(smoothed.sum(-1), torch.ones(40))


@pytest.mark.parametrize(("kind", "width"), KINDS)
def test_what_is_not_covered_says_nothing_and_stays_zero(kind, width):
    scores = torch.randn(40, 5).softmax(-1)
    covered = torch.ones(40, dtype=torch.bool)
    covered[10:13] = False
    spoilt = scores.clone()
    spoilt[10:13] = math.nan
    smoothed = smooth(spoilt, kind, width, covered)
    assert smoothed.equal(smooth(scores, kind, width, covered))
    assert not smoothed[10:13].any()
    torch.testing.assert_close(smoothed[covered].sum(-1), torch.ones(37))


@pytest.mark.parametrize(("kind", "width"), KINDS)
def test_time_has_no_direction(kind, width):
    scores = torch.randn(40, 5).softmax(-1)
    torch.testing.assert_close(smooth(scores.flip(0), kind, width), smooth(scores, kind, width).flip(0))


def test_a_lone_flicker_is_gone():
    scores = torch.tensor([[0.9, 0.1]] * 5 + [[0.1, 0.9]] + [[0.9, 0.1]] * 5)
    for kind, width in KINDS:
        assert smooth(scores, kind, width).argmax(-1).tolist() == [0] * 11


@pytest.mark.parametrize(
    ("kind", "width"),
    [
        ("mean", 3),
        ("median", 4),
        ("box", 0),
        ("box", -1),
        ("median", 2.5),
        ("gaussian", 0.0),
        ("gaussian", math.inf),
    ],
)
def test_kinds_and_widths_that_do_not_exist_are_refused(kind, width):
    with pytest.raises(ValueError, match=r"must be one of|number of frames|width must be"):
        smooth(torch.zeros(3, 2), kind, width)


@pytest.mark.parametrize(
    ("scores", "covered"),
    [
        (torch.zeros(3), None),
        (torch.zeros(3, 2, dtype=torch.int64), None),
        (torch.zeros(3, 2), torch.ones(2, dtype=torch.bool)),
        (torch.zeros(3, 2), torch.ones(3)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(scores, covered):
    with pytest.raises(ValueError, match="expected"):
        smooth(scores, covered=covered)


@pytest.mark.parametrize("kind", ["median", "box", "gaussian"])
def test_scores_that_are_not_finite_are_refused_unless_not_covered(kind):
    scores = torch.full((5, 2), 0.5)
    scores[2] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        smooth(scores, kind, 3)
    assert smooth(scores, kind, 3, torch.tensor([True, True, False, True, True])).isfinite().all()
