import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from abaw.synth.faces import draw_face, draw_identity, draw_motion

NEUTRAL, ANGER, DISGUST, FEAR, HAPPINESS, SADNESS, SURPRISE, OTHER = range(8)


def face(seed, label, mouth=0.0):
    rng = np.random.default_rng(seed)
    who = draw_identity(rng)
    motion = draw_motion(rng, who, np.full(20, label), 25.0, np.full(20, mouth))
    return draw_face(rng, who, motion, 10)


@pytest.fixture(scope="module")
def gradients():
    """Rising and falling edges both ways in 14 x 14 cells (100 persons, 8 expressions, 784)."""

    def edges(crop):
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
        slopes = [cv2.Sobel(grey, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1))]
        signed = [np.maximum(sign * slope, 0) for slope in slopes for sign in (1, -1)]
        cells = np.stack([cv2.resize(s, (14, 14), interpolation=cv2.INTER_AREA) for s in signed])
        return (cells / cells.std()).ravel()

    return np.array([[edges(face(seed, label)) for label in range(8)] for seed in range(100)])


def accuracy(gradients, groups):
    """Held-out accuracy of telling groups of labels apart, on persons never seen."""
    features, target = [], []
    for value, labels in enumerate(groups):
        for label in labels:
            features.append(gradients[:, label])
            target.append(np.full(len(gradients), value))
    features, target = np.stack(features, 1), np.stack(target, 1)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    model.fit(features[:75].reshape(-1, features.shape[-1]), target[:75].ravel())
    return model.score(features[75:].reshape(-1, features.shape[-1]), target[75:].ravel())


def test_a_crop_is_an_rgb_image_of_the_challenge_size():
    crop = face(0, HAPPINESS)
    assert crop.shape == (112, 112, 3)
    assert crop.dtype == np.uint8
    assert crop.std() > 10


def test_same_seed_same_face():
    np.testing.assert_array_equal(face(3, FEAR), face(3, FEAR))
    assert (face(3, FEAR) != face(4, FEAR)).any()


def test_the_face_tells_groups_of_expressions_of_persons_never_seen(gradients):
    assert accuracy(gradients, [[NEUTRAL], [ANGER], [FEAR], [HAPPINESS], [SADNESS]]) > 0.75


@pytest.mark.parametrize("pair", [(NEUTRAL, OTHER), (ANGER, DISGUST), (FEAR, SURPRISE)])
def test_the_face_alone_confuses_pairs(gradients, pair):
    assert accuracy(gradients, [[pair[0]], [pair[1]]]) < 0.9


def test_a_voice_opens_the_mouth():
    still, speaking = face(1, NEUTRAL), face(1, NEUTRAL, mouth=1.0)
    changed = np.abs(still.astype(int) - speaking).sum(2) > 60
    rows = np.flatnonzero(changed.any(1))
    assert len(rows)
    assert rows.min() > 112 * 0.55  # nothing but the mouth
