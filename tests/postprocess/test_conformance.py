"""Windows and votes against a loop in float64, and against the peers where both are defined to agree."""

import math

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from votes import AVERAGES, WEIGHTINGS, brute_force, vote, weight

from abaw.postprocess import window_starts

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@st.composite
def sizes(draw):
    """Frames, window and stride: each way in which they can stand to each other comes often."""
    window = draw(st.integers(1, 9))
    num_frames = draw(st.integers(window + 1, window + 20) | st.just(window) | st.integers(1, window))
    stride = draw(st.integers(1, window) | st.integers(window + 1, window + 6))
    return num_frames, window, stride


@st.composite
def windows(draw):
    """Starts and logits of a video's windows, some of them broken."""
    num_frames, window, stride = draw(sizes())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    starts = window_starts(num_frames, window, stride)
    shape = (len(starts), window, draw(st.integers(1, 5)))
    logits = (5 * torch.randn(shape, generator=generator)).to(draw(st.sampled_from(DTYPES)))
    hit = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.02, 0.3]))
    bad = torch.tensor([math.nan, math.inf, -math.inf], dtype=logits.dtype)
    return (
        num_frames,
        stride,
        starts,
        torch.where(hit, bad[torch.randint(3, shape, generator=generator)], logits),
    )


def conform(given_windows, weighting, average, batch):
    """Vote, and compare with the loop, with the same windows in one batch, and with what has a score."""
    num_frames, stride, starts, logits = given_windows
    window = logits.shape[1]
    event("T < window" if num_frames < window else "T = window" if num_frames == window else "T > window")
    event("stride > window" if stride > window else "stride <= window")
    before = logits.clone()
    expected, seen, broken = brute_force(num_frames, logits, starts, weighting, average)

    scores, covered, excluded = vote(num_frames, logits, starts, batch, weighting=weighting, average=average)

    assert scores.dtype == torch.float32
    assert scores.is_contiguous()
    torch.testing.assert_close(scores.double(), expected, atol=2e-6, rtol=1e-5)
    assert covered.equal(seen)
    assert excluded == broken
    torch.testing.assert_close(logits, before, equal_nan=True, atol=0, rtol=0)
    if not broken and stride <= window:
        assert covered.all()
    if not broken and stride > window:
        places = {start + place for start in starts.tolist() for place in range(window)}
        assert covered.tolist() == [frame in places for frame in range(num_frames)]

    at_once = vote(num_frames, logits, starts, weighting=weighting, average=average)
    torch.testing.assert_close(scores, at_once[0], atol=1e-6, rtol=1e-6)
    assert covered.equal(at_once[1])
    assert excluded == at_once[2]


cases = given(windows(), st.sampled_from(WEIGHTINGS), st.sampled_from(AVERAGES), st.integers(1, 9))


@settings(max_examples=300, deadline=None)
@cases
def test_votes_are_those_of_a_loop_in_float64(given_windows, weighting, average, batch):
    conform(given_windows, weighting, average, batch)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@cases
def test_votes_are_those_of_a_loop_in_thousands_of_cases(given_windows, weighting, average, batch):
    conform(given_windows, weighting, average, batch)


def peer(name):
    return pytest.importorskip(name, reason="needs the peers: pip install 'abaw[bench]'")


@settings(max_examples=100, deadline=None)
@given(sizes(), st.sampled_from(WEIGHTINGS), st.integers(0, 2**20))
def test_votes_are_monai_s_for_the_same_windows_and_weights(given_sizes, weighting, seed):
    inferers = pytest.importorskip(
        "monai.inferers", reason="needs the extra bench: pip install 'abaw[bench]'"
    )
    num_frames, window, stride = given_sizes
    # MONAI pads a short video on both sides, and knows no gaps between windows.
    num_frames, stride = max(num_frames, window), min(stride, window)
    logits = torch.randn(num_frames, window, 3, generator=torch.Generator().manual_seed(seed))
    starts = window_starts(num_frames, window, stride)

    def network(frame_numbers):
        # What is said of a frame differs from window to window.
        return logits[frame_numbers[:, 0, 0].long()].softmax(-1).transpose(1, 2).clone()

    factors = torch.tensor([weight(weighting, place, window) for place in range(window)])
    theirs = inferers.sliding_window_inference(
        torch.arange(num_frames)[None, None].float(),
        roi_size=window,
        sw_batch_size=4,
        predictor=network,
        overlap=max(1 - (stride + 0.5) / window, 0),
        roi_weight_map=factors,
    )
    ours, _, _ = vote(num_frames, logits[starts], starts, weighting=weighting)
    torch.testing.assert_close(ours, theirs[0].T, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 7, 14])
@pytest.mark.parametrize(("mode", "weighting"), [("constant", "uniform"), ("gaussian", "gaussian")])
def test_weights_are_monai_s_of_the_same_name(mode, weighting, window):
    # In longer windows MONAI raises a Gaussian's ends to 0.001.
    inferers = pytest.importorskip(
        "monai.inferers", reason="needs the extra bench: pip install 'abaw[bench]'"
    )
    num_frames = 3 * window + 1
    logits = torch.randn(num_frames, window, 3, generator=torch.Generator().manual_seed(0))
    starts = window_starts(num_frames, window, 1)
    theirs = inferers.sliding_window_inference(
        torch.arange(num_frames)[None, None].float(),
        roi_size=window,
        sw_batch_size=4,
        predictor=lambda numbers: logits[numbers[:, 0, 0].long()].softmax(-1).transpose(1, 2).clone(),
        overlap=1 - 1.5 / window if window > 1 else 0,
        mode=mode,
    )
    ours, _, _ = vote(num_frames, logits[starts], starts, weighting=weighting)
    torch.testing.assert_close(ours, theirs[0].T, atol=1e-6, rtol=1e-5)


@settings(max_examples=100, deadline=None)
@given(sizes(), st.integers(1, 8), st.sampled_from(["uniform", "hamming"]), st.integers(0, 2**20))
def test_votes_are_pyannote_s_where_the_last_window_ends_with_the_video(given_sizes, number, weighting, seed):
    pyannote = pytest.importorskip(
        "pyannote.audio", reason="needs the extra bench: pip install 'abaw[bench]'"
    )
    core = peer("pyannote.core")
    _, window, stride = given_sizes
    num_frames = (number - 1) * stride + window
    starts = window_starts(num_frames, window, stride)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(number, window, 3, generator=generator)
    logits[torch.rand(number, window, generator=generator) < 0.1] = math.nan
    chunks = core.SlidingWindow(start=0.0, duration=float(window), step=float(stride))
    theirs = pyannote.Inference.aggregate(
        core.SlidingWindowFeature(logits.softmax(-1).numpy(), chunks),
        frames=core.SlidingWindow(start=0.0, duration=1.0, step=1.0),
        hamming=weighting == "hamming",
    ).data
    assert len(theirs) == num_frames + 1, "one frame too many"
    theirs = theirs[:num_frames]

    ours, covered, _ = vote(num_frames, logits, starts, weighting=weighting)

    assert covered.tolist() == (~np.isnan(theirs).all(-1)).tolist()
    np.testing.assert_allclose(ours[covered].numpy(), theirs[covered.numpy()], atol=1e-6, rtol=1e-5)
