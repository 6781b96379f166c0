import numpy as np
import pytest

from abaw.data.augment import Augmentation

NOTHING = Augmentation(flip=0, crop=0, brightness=0, contrast=0, color=0, erase=0, gain=0, noise=0)
SOUND = (0.3 * np.sin(np.arange(16_000) * 0.1)).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture, (64, 48, 3)."""
    y, x = np.mgrid[:64, :48]
    return np.stack([x * 4, y * 3, 40 + x + y], axis=-1).astype(np.uint8)


def test_one_draw_for_all_pictures_of_a_window(picture: np.ndarray):
    windows = [Augmentation().pictures(np.stack([picture] * 5), rng(seed)) for seed in range(4)]
    for window in windows:
        assert window.dtype == np.uint8
        assert window.shape == (5, 64, 48, 3)
        assert (window == window[:1]).all()
    assert len({window.tobytes() for window in windows}) == 4


def test_same_draw_same_change_whatever_the_number_of_pictures(picture: np.ndarray):
    augmentation, one, two = Augmentation(), rng(), rng()
    few, many = (augmentation.pictures(np.stack([picture] * count), r) for count, r in ((1, one), (9, two)))
    np.testing.assert_array_equal(few[0], many[0])
    np.testing.assert_array_equal(augmentation.sound(SOUND, one), augmentation.sound(SOUND, two))


def test_rates_of_zero_change_nothing_and_the_input_is_left_alone(picture: np.ndarray):
    before = np.stack([picture] * 2)
    window = before.copy()
    np.testing.assert_array_equal(NOTHING.pictures(window, rng()), before)
    np.testing.assert_array_equal(NOTHING.sound(SOUND.copy(), rng()), SOUND)
    Augmentation(flip=1, erase=1).pictures(window, rng())
    np.testing.assert_array_equal(window, before)


def only(**rates) -> Augmentation:
    return Augmentation(**dict.fromkeys(vars(NOTHING), 0.0) | rates)


def test_flip_mirrors_left_and_right(picture: np.ndarray):
    np.testing.assert_array_equal(only(flip=1).pictures(picture[None], rng())[0], picture[:, ::-1])


def test_crop_keeps_a_part_scaled_up(picture: np.ndarray):
    red = only(crop=0.5).pictures(picture[None], rng(3))[0, :, :, 0].astype(int)
    assert red.min() >= picture[..., 0].min()
    assert red.max() <= picture[..., 0].max()
    # A ramp stays a ramp, less steep.
    slopes = np.diff(red[:, 5:-5], axis=1)
    assert (slopes >= 0).all()
    assert 4 * 0.5 - 0.3 < slopes.mean() < 3.9


def test_brightness_contrast_and_color_are_one_map_of_values(picture: np.ndarray):
    grey = np.full((1, 8, 8, 3), 127.5).astype(np.uint8)
    assert only(contrast=0.5).pictures(grey, rng())[0, 0, 0].tolist() == pytest.approx([127.5] * 3, abs=1)
    bright = only(brightness=0.5).pictures(grey, rng())[0, 0, 0]
    assert len(set(bright.tolist())) == 1
    assert 63 <= bright[0] <= 192
    assert bright[0] != 127
    assert len(set(only(color=0.5).pictures(grey, rng())[0, 0, 0].tolist())) == 3
    spread = only(contrast=0.5).pictures(picture[None], rng(1)).std() / picture.std()
    assert spread != pytest.approx(1, abs=0.02)


def test_erasing_covers_a_box_by_one_color(picture: np.ndarray):
    for seed in range(20):
        erased = only(erase=1).pictures(picture[None], rng(seed))[0]
        rows, columns = np.nonzero((erased != picture).any(axis=-1))
        box = erased[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert len(np.unique(box.reshape(-1, 3), axis=0)) <= 2  # a pixel may happen to have the colour
        assert box.shape[0] <= 33
        assert box.shape[1] <= 25


@pytest.mark.parametrize(("name", "rate"), [("flip", 0.5), ("erase", 0.25)])
def test_probabilities_are_kept(picture: np.ndarray, name: str, rate: float):
    augmentation = only(**{name: rate})
    changed = [(augmentation.pictures(picture[None], rng(s)) != picture).any() for s in range(2000)]
    assert np.mean(changed) == pytest.approx(rate, abs=0.05)


def test_gain_is_within_its_decibels():
    gains = [only(gain=6.0).sound(SOUND, rng(s)) @ SOUND / (SOUND @ SOUND) for s in range(200)]
    decibels = 20 * np.log10(gains)
    assert np.abs(decibels).max() <= 6.001
    assert decibels.min() < -4
    assert decibels.max() > 4


def test_noise_is_within_its_deviation_and_sound_within_full_scale():
    silence = np.zeros(16_000, np.float32)
    deviations = [only(noise=0.01).sound(silence, rng(s)).std() for s in range(50)]
    assert max(deviations) <= 0.0103
    assert max(deviations) > 0.008
    loud = Augmentation(gain=20.0).sound(np.ones(1000, np.float32), rng(1))
    assert loud.dtype == np.float32
    assert np.abs(loud).max() <= 1


def test_no_picture_is_no_problem():
    assert Augmentation(erase=1).pictures(np.zeros((0, 8, 8, 3), np.uint8), rng()).shape == (0, 8, 8, 3)
