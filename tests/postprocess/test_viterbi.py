import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw.postprocess import count_transitions, log_transitions, viterbi


def value(path, scores, transitions):
    return sum(scores[t][c] for t, c in enumerate(path)) + sum(
        transitions[a][b] for a, b in itertools.pairwise(path)
    )


@settings(max_examples=150, deadline=None)
@given(
    num_frames=st.integers(1, 5),
    num_classes=st.integers(1, 4),
    weight=st.floats(0, 5),
    seed=st.integers(0, 2**20),
)
def test_the_path_is_the_best_of_all(num_frames, num_classes, weight, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(num_frames, num_classes, generator=generator).log_softmax(-1)
    transitions = weight * torch.randn(num_classes, num_classes, generator=generator).log_softmax(-1)
    rows, steps = scores.double().tolist(), transitions.double().tolist()
    best = max(itertools.product(range(num_classes), repeat=num_frames), key=lambda p: value(p, rows, steps))
    found = viterbi(scores, transitions)
    assert found.dtype == torch.int64
    assert value(found.tolist(), rows, steps) == pytest.approx(value(best, rows, steps), abs=1e-9)


def test_several_weights_give_what_each_gives_alone():
    scores, transitions = torch.randn(50, 4).log_softmax(-1), torch.randn(4, 4).log_softmax(-1)
    weights = torch.tensor([[0.0, 0.5, 1.0], [3.0, 10.0, 100.0]])
    together = viterbi(scores, weights[..., None, None] * transitions)
    assert together.shape == (2, 3, 50)
    for index in itertools.product(range(2), range(3)):
        assert together[index].equal(viterbi(scores, weights[index] * transitions))


def test_without_a_weight_each_frame_is_on_its_own():
    scores = torch.randn(200, 5)
    assert viterbi(scores, torch.zeros(5, 5)).equal(scores.argmax(-1))


def test_transitions_lead_from_row_to_column():
    impossible = -1e9
    only_up = torch.tensor([[0.0, 0.0], [impossible, 0.0]])
    scores = torch.tensor([[0.0, 1.0], [1.5, 0.0]])
    assert viterbi(scores, only_up).tolist() == [0, 0]
    assert viterbi(scores, only_up.T).tolist() == [1, 0]


def test_impossible_transitions_and_no_frames():
    never = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]])
    assert viterbi(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), never).tolist() == [1, 1]
    assert viterbi(torch.zeros(0, 2), never).shape == (0,)


def test_transitions_are_counted_within_videos_and_annotated_stretches():
    targets = [[0, 0, 1, -1, 1, 2], [2, 2, 2], [1], [], [-1, 0, -1]]
    expected = torch.zeros(4, 4, dtype=torch.int64)
    for a, b in [(0, 0), (0, 1), (1, 2), (2, 2), (2, 2)]:
        expected[a, b] += 1
    assert count_transitions([torch.tensor(t, dtype=torch.int64) for t in targets], 4).equal(expected)


def test_nothing_that_was_not_seen_is_impossible():
    logs = log_transitions(torch.tensor([[8, 0], [0, 0]]))
    torch.testing.assert_close(logs.exp(), torch.tensor([[0.9, 0.1], [0.5, 0.5]], dtype=torch.float64))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="expected log_scores"):
        viterbi(torch.zeros(3, 2), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="expected log_scores"):
        viterbi(torch.zeros(2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="below 2"):
        count_transitions([torch.tensor([0, 2])], 2)
