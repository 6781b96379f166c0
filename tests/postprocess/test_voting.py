import math
import warnings

import pytest
import torch
from votes import AVERAGES, WEIGHTINGS, vote, weight

from abaw.postprocess import SoftVoting, window_starts


@pytest.mark.parametrize("average", AVERAGES)
def test_scores_are_probabilities_where_covered_and_zero_elsewhere(average):
    starts = window_starts(30, window=3, stride=7)
    scores, covered, _ = vote(30, torch.randn(len(starts), 3, 4), starts, average=average)
    assert 0 < covered.sum() < 30
    torch.testing.assert_close(scores[covered].sum(-1), torch.ones(int(covered.sum())))
    assert not scores[~covered].any()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("window", [1, 2, 7, 20_000])
def test_every_frame_of_a_lone_window_is_covered(weighting, window):
    logits = torch.randn(1, window, 3)
    scores, covered, _ = vote(window, logits, torch.tensor([0]), weighting=weighting)
    assert covered.all()
    torch.testing.assert_close(scores, logits[0].softmax(-1))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_ends_of_a_long_window_are_weighted_exactly(weighting):
    logits = torch.tensor([[[0.0, 9.0]], [[9.0, 0.0]]]).expand(2, 20_000, 2)
    scores, _, _ = vote(20_001, logits, torch.tensor([0, 1]), weighting=weighting, average="logits")
    first, second = weight(weighting, 1, 20_000), weight(weighting, 0, 20_000)
    share = first / (first + second)
    torch.testing.assert_close(
        scores[1].double().log().diff().item(), 9 * (2 * share - 1), atol=1e-5, rtol=1e-5
    )


def test_half_precision_is_summed_in_single_precision():
    # 4096 votes of 0.5 are 2048: bfloat16 sums stop growing at 128 of them, float16 ones at 4096.
    logits = torch.zeros(4096, 1, 2, dtype=torch.bfloat16)
    voting = SoftVoting(1, 2, 1)
    voting.add(logits, torch.zeros(4096, dtype=torch.int64))
    scores, _ = voting.finish()
    torch.testing.assert_close(scores, torch.tensor([[0.5, 0.5]]), atol=0, rtol=0)


def test_frames_of_a_padded_window_beyond_the_video_are_ignored():
    logits = torch.randn(1, 5, 3)
    logits[:, 2:] = math.nan
    scores, covered, excluded = vote(2, logits, torch.tensor([0]))
    torch.testing.assert_close(scores, logits[0, :2].softmax(-1))
    assert covered.tolist() == [True, True]
    assert excluded == 0


def test_what_is_excluded_is_warned_of_with_its_number():
    logits = torch.zeros(2, 2, 3)
    logits[0, 1, 0] = math.nan
    logits[1, 1, 2] = -math.inf
    voting = SoftVoting(4, 3, 2)
    voting.add(logits, torch.tensor([0, 1]))
    with pytest.warns(UserWarning, match="^2 votes") as caught:
        _, covered = voting.finish()
    assert len(caught) == 1
    assert covered.tolist() == [True, True, False, False]


def test_finite_votes_raise_no_warning_and_gradients_are_not_kept():
    voting = SoftVoting(3, 2, 3)
    voting.add(torch.randn(1, 3, 2, requires_grad=True), torch.tensor([0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, _ = voting.finish()
    assert not scores.requires_grad


def test_a_video_without_frames_has_no_scores():
    voting = SoftVoting(0, 2, 3)
    voting.add(torch.zeros(0, 3, 2), window_starts(0, 3, 1))
    scores, covered = voting.finish()
    assert scores.shape == (0, 2)
    assert covered.shape == (0,)


def test_doubles_that_single_precision_cannot_hold_are_excluded():
    logits = torch.tensor([[[1e300, 0.0]], [[0.0, 1.0]]], dtype=torch.float64)
    scores, covered, excluded = vote(1, logits, torch.tensor([0, 0]), average="logits")
    assert (covered.tolist(), excluded) == ([True], 1)
    torch.testing.assert_close(scores.double(), logits[1].softmax(-1))


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("num_classes", [1, 3])
def test_logits_and_starts_are_left_as_they_were(num_classes, average):
    logits, starts = torch.randn(2, 4, num_classes), torch.tensor([0, 3])
    logits[0, 0] = math.nan
    before = logits.clone(), starts.clone()
    vote(6, logits, starts, weighting="hann", average=average)
    for now, then in zip((logits, starts), before, strict=True):
        torch.testing.assert_close(now, then, atol=0, rtol=0, equal_nan=True)


def test_starts_that_are_no_integers_are_refused():
    with pytest.raises(ValueError, match=r"starts int64 .* got starts torch.float32"):
        SoftVoting(9, 2, 3).add(torch.zeros(1, 3, 2), torch.zeros(1))


@pytest.mark.parametrize(
    ("logits", "starts"), [((1, 4, 2), (1,)), ((1, 3, 3), (1,)), ((2, 3, 2), (1,)), ((1, 3, 2), (1, 1))]
)
def test_shapes_that_do_not_fit_are_refused(logits, starts):
    with pytest.raises(ValueError, match="expected starts"):
        SoftVoting(9, 2, 3).add(torch.zeros(logits), torch.zeros(starts, dtype=torch.int64))


@pytest.mark.parametrize(
    "options",
    [
        {"num_frames": -1},
        {"num_classes": 0},
        {"window": 0},
        {"weighting": "cosine"},
        {"average": "median"},
    ],
)
def test_options_that_do_not_exist_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        SoftVoting(**{"num_frames": 4, "num_classes": 2, "window": 2} | options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_adding_windows_never_waits_for_the_device():
    logits, starts = torch.randn(50, 8, 3, device="cuda"), window_starts(200, 8, 4).cuda()
    voting = SoftVoting(200, 3, 8, "hann", device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        voting.add(logits[: len(starts)], starts)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected, _, _ = vote(200, logits.cpu()[: len(starts)], starts.cpu(), weighting="hann")
    torch.testing.assert_close(voting.finish()[0].cpu(), expected)
