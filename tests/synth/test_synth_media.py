from fractions import Fraction

import av
import numpy as np
import pytest

from abaw.synth.media import Format, write_video

FORMS = {
    "plain": Format(),
    "late sound": Format(sound_start=0.5),
    "late picture": Format(picture_start=0.4, sample_rate=44100),
    "variable": Format(variable=True),
    "stereo": Format(layout="stereo"),
    "avi mp3": Format(".avi", "libmp3lame", 44100),
    "avi pcm": Format(".avi", "pcm_s16le", 44100),
}


def write(path, form, fps=Fraction(25), num=60, click=1.5):
    sound = np.zeros(round(16000 * (num / fps - Fraction(form.sound_start))), np.float32)
    at = round((click - form.sound_start) * 16000)
    sound[at : at + 160] = 0.8 * np.sin(np.arange(160) * 0.6)
    pictures = (np.full((120, 160, 3), 4 * k % 256, np.uint8) for k in range(num))
    write_video(path, pictures, form.ticks(num, fps), fps, sound, form)
    return path


def picture_times(path):
    with av.open(path) as container:
        return np.array([float(frame.pts * frame.time_base) for frame in container.decode(video=0)])


def click_time(path):
    with av.open(path) as container:
        loudest = max(
            (np.abs(frame.to_ndarray().astype(float)).max(), float(frame.pts * frame.time_base))
            for frame in container.decode(audio=0)
        )
    return loudest[1]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(15)], ids=str)
def test_pictures_and_sound_are_where_they_should_be(tmp_path, form, fps):
    path = write(tmp_path / f"a{form.suffix}", form, fps)
    times = picture_times(path)
    assert len(times) == 60
    # MP3 in AVI shifts both tracks by an encoder's delay, up to a frame.
    slack = 1.01 / fps if form.sound_codec == "libmp3lame" else 0.001
    np.testing.assert_allclose(times, form.ticks(60, fps) / float(fps), atol=float(slack))
    assert times[0] == pytest.approx(form.picture_start, abs=float(max(slack, 0.5 / fps)))
    # Within one packet: at most 1152 samples at 44.1 kHz, and 25 ms of mp3's delay.
    assert click_time(path) == pytest.approx(1.5, abs=0.05)


def test_variable_rate_varies(tmp_path):
    steps = np.diff(picture_times(write(tmp_path / "a.mp4", FORMS["variable"])))
    assert set(steps.round(6)) == {0.04, 0.08}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_equal_input_gives_equal_bytes(tmp_path, form):
    first, second = (write(tmp_path / f"{name}{form.suffix}", form).read_bytes() for name in "ab")
    assert first == second
    assert b"Lavf" not in first  # nor do they depend on the writer's version


def test_pictures_keep_their_colour(tmp_path):
    with av.open(write(tmp_path / "a.mp4", Format())) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert frames[0].shape == (120, 160, 3)
    levels = [frame.mean() for frame in frames]
    np.testing.assert_allclose(levels, [4 * k for k in range(60)], atol=6)


def test_mute_has_no_audio_track(tmp_path):
    with av.open(write(tmp_path / "a.mp4", Format(sound_codec=None))) as container:
        assert not container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) == 60


def test_pictures_and_ticks_must_agree_in_number(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        write_video(
            tmp_path / "a.mp4",
            [np.zeros((120, 160, 3), np.uint8)],
            np.arange(2),
            Fraction(25),
            np.zeros(16000, np.float32),
            Format(),
        )
