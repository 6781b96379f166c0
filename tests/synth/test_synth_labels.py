from itertools import groupby

import numpy as np
import pytest

from abaw.synth.labels import draw_labels, leave_out, transition_matrix


def runs(labels):
    """Stretches as (class, length), by the standard library alone."""
    return [(int(value), len(list(group))) for value, group in groupby(labels)]


@pytest.mark.parametrize(
    ("recordings", "frames", "several"), [(22, 300, 5), (9, 300, 5), (5, 120, 5), (2, 120, 2), (2, 40, 1)]
)
def test_every_class_has_stretches_at_any_size(recordings, frames, several):
    for seed in range(8):
        fps = [25.0, 30.0, 15.0][seed % 3]
        split = draw_labels(np.random.default_rng(seed), frames, [fps] * recordings)
        assert [labels.shape for labels in split] == [(frames,)] * recordings
        seen = [value for labels in split for value, _ in runs(labels)]
        assert min(seen.count(value) for value in range(8)) >= several


def test_stretches_last_seconds_and_rare_classes_are_rare():
    lengths, counts = [], np.zeros(8)
    for seed in range(8):
        for labels in draw_labels(np.random.default_rng(seed), 600, [25.0] * 40):
            lengths += [length / 25 for _, length in runs(labels)]
            counts += np.bincount(labels, minlength=8)
    assert 1.0 < np.mean(lengths) < 2.5
    assert min(lengths) > 0.4
    share = counts / counts.sum()
    neutral, anger, disgust, fear, happiness, sadness, surprise, other = share
    assert max(disgust, fear) < min(happiness, sadness, other) / 1.7
    assert neutral == share.max() > 3 * fear
    assert anger < surprise < other


def test_dwell_is_in_seconds_not_in_frames():
    slow, fast = (
        np.mean(
            [n for labels in draw_labels(np.random.default_rng(0), 600, [fps] * 40) for _, n in runs(labels)]
        )
        for fps in (15.0, 30.0)
    )
    assert fast / slow == pytest.approx(2, rel=0.15)


def test_transitions_are_a_chain_without_self_loops():
    chain = transition_matrix()
    np.testing.assert_allclose(chain.sum(1), 1)
    assert (np.diag(chain) == 0).all()
    assert (chain + np.eye(8) > 0).all()


def test_the_start_is_left_out_where_no_transition_is():
    annotated = leave_out(np.random.default_rng(0), np.repeat([3, 4], 50), 0.0)
    assert annotated[0] == -1
    assert (annotated[50:] == 4).all()


@pytest.mark.parametrize("seed", range(20))
def test_left_out_frames_are_spans_and_cost_no_stretch(seed):
    rng = np.random.default_rng(seed)
    labels = draw_labels(rng, 300, [25.0] * 4)[0]
    annotated = leave_out(rng, labels, 0.3)
    gone = annotated == -1
    assert 0 < gone.mean() < 0.6
    assert (annotated[~gone] == labels[~gone]).all()
    start = 0
    for value, length in runs(labels):
        assert (annotated[start : start + length] == value).any()
        start += length
