from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from abaw.synth.media import Format
from abaw.synth.plan import Person, Recording
from abaw.synth.recording import write_recording

FORMS = {
    "plain": Format(),
    "late sound": Format(sound_start=0.5),
    "late picture": Format(picture_start=0.4),
    "variable": Format(variable=True),
    "short": Format(sound_excess=-1.2),
    "long": Format(sound_excess=1.5, layout="stereo"),
    "avi": Format(".avi", "libmp3lame", 44100),
}


def record(root, form, fps=Fraction(25), num=250, num_decoded=250, face=None):
    """Sadness and Anger by turns, a second and a half each: quiet and loud."""
    labels = np.where(np.arange(num) // round(1.5 * fps) % 2, 1, 5)
    face = np.zeros(num, bool) if face is None else face
    person = Person("p", "cropped_aligned", labels, labels, face)
    ticks = form.ticks(max(num, num_decoded, len(face)), fps)
    for folder in ("EXPR_Recognition_Challenge/Train_Set", "cropped_aligned/p", "batch1"):
        (root / folder).mkdir(parents=True)
    write_recording(
        root, 0, Recording(0, "p", "train", "batch1", fps, form, ticks, num_decoded, labels, (person,))
    )
    return root / "batch1" / f"p{form.suffix}", labels


def decode(path):
    """Times of pictures; sound and the time of each of its samples: all on the file's own clock."""
    with av.open(path) as container:
        pictures = np.array([float(f.pts * f.time_base) for f in container.decode(video=0)])
    with av.open(path) as container:
        frames = [
            (float(f.pts * f.time_base), f.sample_rate, f.to_ndarray().reshape(-1)[: f.samples].astype(float))
            for f in container.decode(audio=0)
            if f.format.is_planar or f.layout.nb_channels == 1
        ]
    times = np.concatenate([start + np.arange(len(x)) / rate for start, rate, x in frames])
    return pictures, times, np.concatenate([x for _, _, x in frames])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_voice_changes_when_the_labels_do(tmp_path, form):
    path, labels = record(tmp_path, form)
    pictures, times, sound = decode(path)
    if form.sound_codec == "libmp3lame":
        pictures = pictures - 0.015  # what is left of the encoder's delay

    energy = np.concatenate([[0], np.cumsum(sound**2)])

    def contrast(shift):
        """Loud minus quiet in dB, with the sound moved against the picture."""
        start = pictures + shift
        heard = (start >= times[0]) & (start + 0.04 < times[-1])
        first, last = np.searchsorted(times, [start[heard], start[heard] + 0.04])
        level, loud = energy[last] - energy[first], labels[heard] == 1
        return 10 * np.log10(level[loud].mean() / level[~loud].mean())

    shifts = np.arange(-10, 11) / 20
    best = shifts[np.argmax([contrast(shift) for shift in shifts])]
    assert abs(best) <= 0.1
    assert contrast(0) > 6


@pytest.mark.parametrize(
    ("name", "start", "end"), [("late sound", 0.5, 0), ("short", 0, -1.2), ("long", 0, 1.5)]
)
def test_sound_starts_and_ends_elsewhere(tmp_path, name, start, end):
    pictures, times, _ = decode(record(tmp_path, FORMS[name])[0])
    assert times[0] == pytest.approx(start, abs=0.03)
    assert times[-1] == pytest.approx(pictures[-1] + 0.04 + end, abs=0.05)


def test_crops_show_the_present_frames_and_go_on_after_the_last_picture(tmp_path):
    face = np.ones(64, bool)
    face[[3, 20, 21, 22]] = False
    path, labels = record(tmp_path, Format(), num=60, num_decoded=57, face=face)
    assert len(decode(path)[0]) == 57
    crops = {file.name for file in (tmp_path / "cropped_aligned/p").iterdir()}
    assert crops == {f"{k + 1:05d}.jpg" for k in range(64) if k not in (3, 20, 21, 22)}
    assert all(
        cv2.imread(str(tmp_path / "cropped_aligned/p" / name)).shape == (112, 112, 3) for name in crops
    )
    rows = (tmp_path / "EXPR_Recognition_Challenge/Train_Set/p.txt").read_text().splitlines()
    assert rows[0] == "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
    assert [int(row) for row in rows[1:]] == labels.tolist()


@pytest.mark.parametrize("form", [FORMS["plain"], FORMS["avi"]], ids=["mp4", "avi"])
def test_the_scene_shows_the_face_of_the_crop(tmp_path, form):
    face = np.ones(60, bool)
    face[50:] = False
    path, _ = record(tmp_path, form, num=60, num_decoded=60, face=face)
    with av.open(path) as container:
        scenes = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    crop = cv2.imread(str(tmp_path / "cropped_aligned/p/00041.jpg"))
    patch = cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA)[14:50, 14:50]

    def found(scene):
        return cv2.matchTemplate(scene, patch, cv2.TM_CCOEFF_NORMED).max()

    assert found(scenes[40]) > 0.95
    assert found(scenes[55]) < 0.6
    cheek = scenes[40][60:66, 65:95].mean((0, 1))  # the same colours: both are red where the skin is
    np.testing.assert_allclose(cheek, crop[63:73, 30:82].mean((0, 1)), atol=12)
