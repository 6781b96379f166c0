import numpy as np
import pytest

from abaw.synth.voices import draw_voice

NEUTRAL, ANGER, DISGUST, FEAR, HAPPINESS, SADNESS, SURPRISE, OTHER = range(8)


def speak(seed, label, seconds=3):
    return draw_voice(np.random.default_rng(seed), np.full(seconds * 100, label))


def loudness(voice):
    return 10 * np.log10((voice.sound.astype(np.float64) ** 2).mean())


def semitones(voice):
    """Pitch above 100 Hz: the median peak of the loudest blocks' autocorrelation."""
    blocks = voice.sound[: len(voice.sound) // 640 * 640].reshape(-1, 640).astype(np.float64)
    energy = (blocks**2).mean(1)
    loud = blocks[energy > np.quantile(energy, 0.7)]
    correlation = np.fft.irfft(np.abs(np.fft.rfft(loud, 1280)) ** 2)
    lag = 40 + np.argmax(correlation[:, 40:200] / (640 - np.arange(40, 200)), axis=1)
    return 12 * np.log2(16000 / np.median(lag) / 100)


def brightness(voice):
    power = np.abs(np.fft.rfft(voice.sound)) ** 2
    return power[len(power) // 5 :].sum() / power.sum()  # the share above 1.6 kHz


def syllables(voice):
    """Openings of the mouth a second."""
    return (np.diff((voice.mouth > 0.4).astype(int)) == 1).sum() / (len(voice.mouth) / 100)


@pytest.fixture(scope="module")
def median():
    """The median of a measure over voices of an expression; the same speakers say all expressions."""
    voices = {label: [speak(seed, label) for seed in range(9)] for label in range(8)}
    return lambda measure, label: np.median([measure(voice) for voice in voices[label]])


def test_sound_is_mono_16_khz_and_does_not_clip():
    sound = speak(0, ANGER).sound
    assert sound.dtype == np.float32
    assert sound.shape == (48000,)
    assert 0.02 < np.abs(sound).max() < 1


def test_same_seed_same_voice():
    np.testing.assert_array_equal(speak(1, FEAR).sound, speak(1, FEAR).sound)
    assert (speak(1, FEAR).sound != speak(2, FEAR).sound).any()


def test_energy_pitch_rhythm_and_timbre_tell_groups_of_expressions(median):
    loud, middle, quiet = (median(loudness, label) for label in (ANGER, NEUTRAL, SADNESS))
    assert loud > middle + 5
    assert quiet < middle - 1
    high, middle, low = (median(semitones, label) for label in (FEAR, NEUTRAL, SADNESS))
    assert high > middle + 3
    assert low < middle - 1
    assert median(syllables, HAPPINESS) > 1.7 * median(syllables, OTHER)
    assert median(brightness, SURPRISE) > 1.5 * median(brightness, NEUTRAL)


@pytest.mark.parametrize("pair", [(NEUTRAL, DISGUST), (ANGER, SURPRISE), (FEAR, HAPPINESS), (SADNESS, OTHER)])
def test_the_voice_alone_confuses_pairs(median, pair):
    for measure, slack in ((loudness, 3.0), (semitones, 2.5), (syllables, 1.0)):
        assert median(measure, pair[0]) == pytest.approx(median(measure, pair[1]), abs=slack)


@pytest.mark.parametrize("seed", range(5))
def test_there_are_pauses_but_a_stretch_is_mostly_voiced(seed):
    mouth = speak(seed, NEUTRAL, seconds=12).mouth
    assert 0.05 < (mouth == 0).mean() < 0.4
    assert np.median((mouth > 0).reshape(12, 100).mean(1)) > 0.5
