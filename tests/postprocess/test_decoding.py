import pytest
import torch

from abaw.postprocess import Decoder, Smoothing, log_transitions, smooth, viterbi

TRANSITIONS = torch.tensor([[90, 5, 5], [5, 90, 5], [5, 5, 90]])


def scores(num_frames=60, seed=0):
    return torch.randn(num_frames, 3, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def test_nothing_switched_on_is_the_largest_score():
    given = scores()
    decided, labels = Decoder()(given)
    torch.testing.assert_close(decided, given)
    assert labels.equal(given.argmax(-1))
    assert labels.dtype == torch.int64


def test_the_steps_follow_one_another():
    given, bias = scores(), (0.3, -0.2, -0.1)
    decoder = Decoder(Smoothing("box", 5), bias, transition_weight=2.0)
    decided, labels = decoder(given, transitions=TRANSITIONS)
    biased = smooth(given, "box", 5).log() + torch.tensor(bias)
    torch.testing.assert_close(decided, biased.softmax(-1))
    assert labels.equal(viterbi(biased, 2 * log_transitions(TRANSITIONS)))
    assert not labels.equal(decided.argmax(-1))
    assert not decided.argmax(-1).equal(given.argmax(-1))


def test_frames_without_scores_take_the_nearest_label_and_stay_zero():
    given = scores()
    covered = torch.ones(60, dtype=torch.bool)
    covered[:3] = covered[20:24] = False
    for decoder in (Decoder(), Decoder(bias=(0.0, 0.0, 5.0)), Decoder(transition_weight=1.0)):
        decided, labels = decoder(given * covered[:, None], covered, TRANSITIONS)
        assert not decided[~covered].any()
        assert labels[:3].tolist() == [labels[3]] * 3
        assert labels[20:24].tolist() == [labels[19]] * 2 + [labels[24]] * 2


def test_frames_without_scores_prefer_no_class_whatever_is_written_there():
    covered = torch.arange(60) % 7 > 1
    spoilt = scores().masked_fill(~covered[:, None], torch.nan)
    decoder = Decoder(bias=(0.0, 3.0, -3.0), transition_weight=0.1)
    assert not decoder.logits(spoilt, covered)[~covered].any()
    for one, other in zip(
        decoder(spoilt, covered, TRANSITIONS), decoder(scores(), covered, TRANSITIONS), strict=True
    ):
        assert one.equal(other)


def test_a_score_of_zero_does_not_decide_for_ever():
    given = torch.tensor([[0.0, 1.0]] + [[0.6, 0.4]] * 400)
    _, labels = Decoder(transition_weight=1.0)(given, transitions=torch.tensor([[999, 0], [0, 999]]))
    assert labels[1:].tolist() == [0] * 400


def test_half_precision_is_given_back():
    decided, _ = Decoder(Smoothing("median", 3))(scores().half())
    assert decided.dtype == torch.float16


@pytest.mark.parametrize(
    "options",
    [
        {"bias": (0.0, float("nan"))},
        {"transition_weight": 0.0},
        {"transition_weight": float("inf")},
    ],
)
def test_parameters_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        Decoder(**options)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 biases for 3 classes"):
        Decoder(bias=(0.0, 1.0))(scores())
    with pytest.raises(ValueError, match="needs the counts"):
        Decoder(transition_weight=1.0)(scores())
    with pytest.raises(ValueError, match="odd number"):
        Smoothing("median", 4)


@pytest.mark.parametrize("smoothing", [None, Smoothing("box", 3)])
def test_scores_that_are_not_finite_are_refused_unless_not_covered(smoothing):
    broken = scores()
    broken[1] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        Decoder(smoothing)(broken)
    covered = torch.arange(len(broken)) != 1
    assert Decoder(smoothing)(broken, covered)[0].isfinite().all()


def test_what_has_no_answer_of_its_own_is_no_evidence_of_its_neighbours():
    told = torch.tensor([True] * 4 + [False] * 40 + [True] * 4)
    vote = torch.tensor([[0.05, 0.9, 0.05]]).expand(48, 3)
    scores = torch.where(told[:, None], torch.tensor([0.5, 0.3, 0.2]), vote)
    everywhere = torch.ones(48, dtype=torch.bool)
    for smoothing in (Smoothing("box", 9), Smoothing("gaussian", 3), Smoothing("median", 9)):
        smoothed, labels = Decoder(smoothing)(scores, everywhere, answered=told)
        torch.testing.assert_close(smoothed, scores)
        assert labels.tolist() == [0] * 48, "the nearest frame's that has an answer"
        assert Decoder(smoothing)(scores, everywhere)[1][3] == 1, "else it would be"
    assert Decoder()(scores, everywhere, answered=told)[1].equal(scores.argmax(-1)), "the plain vote stands"
    # Viterbi goes through them as through frames without scores.
    transitions = torch.tensor([[9, 1, 0], [1, 9, 0], [0, 0, 9]])
    _, labels = Decoder(transition_weight=1.0)(scores, everywhere, transitions, told)
    assert labels.tolist() == [0] * 48
    assert 1 in Decoder(transition_weight=1.0)(scores, everywhere, transitions)[1]
    nobody = torch.zeros(48, dtype=torch.bool)
    for given in (nobody, None):
        assert Decoder(Smoothing("box", 9))(scores, everywhere, answered=given)[1].equal(
            Decoder(Smoothing("box", 9))(scores)[1]
        )
