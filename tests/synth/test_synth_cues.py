import numpy as np
import pytest

from abaw.synth.cues import follow, wander

ONE_CUE = np.array([[0.0], [1.0]])


def test_wander_has_unit_variance_and_is_slow():
    track = wander(np.random.default_rng(0), 100_000, 100.0, 0.5, 3)
    assert track.shape == (100_000, 3)
    np.testing.assert_allclose(track.std(0), 1, rtol=0.05)
    assert np.abs(np.diff(track, axis=0)).max() < 0.3
    correlation = np.corrcoef(track.T)
    assert np.abs(correlation - np.eye(3)).max() < 0.1


def test_follow_eases_from_one_expression_to_the_next():
    labels = np.repeat([0, 1], 50)
    track = follow(np.random.default_rng(0), labels, np.array([[0.0], [1.0]]), 25.0, weakest=1.0, noise=0.0)[
        :, 0
    ]
    assert track[:45] == pytest.approx(0)
    assert 1.0 <= track[60] <= 1.15
    assert track[60:] == pytest.approx(track[60])
    assert (np.diff(track[46:55]) >= 0).all()
    assert np.abs(np.diff(track)).max() < 0.6


def test_each_stretch_has_a_strength_of_its_own():
    labels = np.repeat([0, 1, 0, 1], 50)
    track = follow(np.random.default_rng(0), labels, np.array([[0.0], [1.0]]), 25.0, weakest=0.5, noise=0.0)[
        :, 0
    ]
    assert track[75] != pytest.approx(track[175], abs=0.01)
