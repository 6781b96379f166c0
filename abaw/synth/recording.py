"""One recording on disk: a scene with its sound, and for each person in it crops and labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from abaw.labels import EXPRESSIONS
from abaw.synth.cues import Track
from abaw.synth.faces import Image, draw_face, draw_identity, draw_motion
from abaw.synth.media import SCENE, write_video
from abaw.synth.plan import Recording
from abaw.synth.voices import CONTROL, RATE, draw_voice

LABEL_FOLDERS: Final = {
    "train": "EXPR_Recognition_Challenge/Train_Set",
    "validation": "EXPR_Recognition_Challenge/Validation_Set",
    "test": "test_labels",
}
"""Where the labels of each split lie; those of the test where no reader takes them for training labels."""


def write_recording(root: Path, seed: int, recording: Recording) -> None:
    """Write the labels, the crops and the raw video of one recording.

    Args:
        root: Folder of the corpus; the folders in it are there.
        seed: The corpus's seed.
        recording: What to write.
    """
    rng = np.random.default_rng([seed, recording.index])
    for person in recording.persons:
        rows = [",".join(EXPRESSIONS), *map(str, person.labels.tolist())]
        labels = root / LABEL_FOLDERS[recording.split] / f"{person.name}.txt"
        labels.write_text("".join(f"{row}\n" for row in rows), "utf-8")

    times = recording.ticks / float(recording.fps)
    picture_end = times[recording.num_decoded - 1] + 1 / float(recording.fps)
    excess = max(recording.form.sound_excess, -picture_end / 4)
    control = np.arange(0, max(picture_end + excess, times[-1] + 1), 1 / CONTROL)
    shown = np.searchsorted(times, control, side="right").clip(1, len(recording.expressions)) - 1
    voice = draw_voice(rng, recording.expressions[shown], recording.weakest)
    first, last = round(recording.form.sound_start * RATE), round((picture_end + excess) * RATE)

    mouth = np.interp(times, control, voice.mouth)
    write_video(
        root / recording.folder / f"{recording.name}{recording.form.suffix}",
        _film(root, rng, recording, mouth),
        recording.ticks[: recording.num_decoded],
        recording.fps,
        voice.sound[first:last],
        recording.form,
    )


def _film(root: Path, rng: np.random.Generator, recording: Recording, mouth: Track) -> Iterator[Image]:
    """Draw the faces, save their crops on the way, and yield the scene, uint8 (120, 160, 3)."""
    cast = []
    for place, person in enumerate(recording.persons):
        who = draw_identity(rng)
        expressions = np.pad(person.expressions, (0, len(mouth) - len(person.expressions)), mode="edge")
        speaks = mouth if place == 0 else np.zeros_like(mouth)
        motion = draw_motion(rng, who, expressions, float(recording.fps), speaks, recording.weakest)
        cast.append((person, who, motion))
    room = np.linspace(0.7, 1.1, SCENE[0])[:, None, None] * cast[0][1].backdrop * np.ones((*SCENE, 1))
    for frame in range(len(mouth)):
        scene = room.clip(0, 255).astype(np.uint8)
        for place, (person, who, motion) in enumerate(cast):
            centre = (SCENE[1] * (2 * place + 1) // (2 * len(cast)), 56)
            _put_body(scene, who.hair, centre)
            if frame < len(person.face) and person.face[frame]:
                crop = draw_face(rng, who, motion, frame)
                _, jpg = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
                (root / person.crops / person.name / f"{frame + 1:05d}.jpg").write_bytes(jpg.tobytes())
                _put_face(scene, crop, centre)
        if frame < recording.num_decoded:  # crops may go on after the last picture
            yield scene


def _put_body(scene: Image, hair: Track, centre: tuple[int, int]) -> None:
    """Put a person into the scene, seen from behind."""
    x, y = centre
    cv2.ellipse(scene, (x, y + 76), (36, 44), 0, 0, 360, (255 - hair).tolist(), -1)
    cv2.ellipse(scene, centre, (27, 32), 0, 0, 360, hair.tolist(), -1)


def _put_face(scene: Image, crop: Image, centre: tuple[int, int]) -> None:
    """Turn the person round."""
    (x, y), half = centre, 32
    oval = np.zeros((2 * half, 2 * half, 1), np.uint8)
    cv2.ellipse(oval, (half, half), (27, 31), 0, 0, 360, 1, -1)
    face = cv2.resize(crop, (2 * half, 2 * half), interpolation=cv2.INTER_AREA)
    np.copyto(scene[y - half : y + half, x - half : x + half], face, where=oval.astype(bool))
