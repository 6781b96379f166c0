"""Drawn faces: mouth, brows and eyes tell a part of the expression; all else varies."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from abaw.synth.cues import WEAKEST, Track, follow, wander
from abaw.synth.labels import Labels

Image = NDArray[np.uint8]

CUES: Final = (
    "brow raise",
    "brow tilt",
    "eyes",
    "mouth curve",
    "mouth open",
    "mouth width",
    "wrinkle",
    "skew",
)
PROTOTYPES: Final = np.array(
    [  # lift   tilt   eyes  curve   open  width wrinkle  skew
        [0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00],  # Neutral
        [-0.6, -0.90, -0.4, -0.40, 0.05, -0.15, 0.35, 0.00],  # Anger
        [-0.5, -0.75, -0.6, -0.50, 0.05, -0.05, 0.65, 0.12],  # Disgust
        [0.80, 0.55, 0.75, -0.20, 0.50, 0.20, 0.00, 0.00],  # Fear
        [0.10, 0.10, -0.3, 1.00, 0.30, 0.50, 0.15, 0.00],  # Happiness
        [0.15, 0.95, -0.4, -0.75, 0.00, -0.10, 0.00, 0.00],  # Sadness
        [0.90, 0.15, 0.80, 0.00, 0.65, -0.20, 0.00, 0.00],  # Surprise
        [0.08, 0.00, 0.00, 0.08, 0.00, 0.05, 0.00, 0.20],  # Other
    ]
)
"""The face's part of each expression: lift and tilt of the brows, how far the eyes open, curve, opening,
width and skew of the mouth, wrinkles. Neutral and Other, Anger and Disgust, Fear and Surprise look nearly
alike: the voice tells them apart."""

CROP: Final = 112
"""Side of an aligned crop in pixels."""
_SIDE = 224  # drawn twice as large, then averaged: soft edges
_SHIFT = 4  # OpenCV's fixed point: coordinates in sixteenths of a pixel
_SKIN = np.array(
    [[250, 214, 190], [236, 188, 156], [214, 160, 124], [176, 120, 86], [126, 82, 58], [104, 70, 50]]
)
_HAIR = np.array([[32, 26, 24], [72, 46, 30], [122, 82, 46], [190, 150, 92], [150, 148, 148], [110, 46, 26]])


@dataclass(frozen=True)
class Identity:
    """Who is seen and in which light: what stays the same and says nothing of the expression."""

    skin: Track
    hair: Track
    backdrop: Track
    shape: Track
    """(8,) about 1: face width, eyes' distance and size, brows' thickness and height, mouth's height and
    width, lips."""
    rest: Track
    """(8,): the cues of this person's own neutral face."""
    fringe: float
    beard: bool
    glasses: bool
    light: Track
    """(3,) RGB gain."""
    slope: Track
    """(2,) how much brighter the right and the lower edge are."""
    blur: float
    grain: float


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draw a person, a backdrop and a light."""
    tone = rng.uniform(0, len(_SKIN) - 1)
    skin = np.array([np.interp(tone, range(len(_SKIN)), channel) for channel in _SKIN.T])
    return Identity(
        skin=skin * rng.uniform(0.92, 1.05, 3),
        hair=_HAIR[rng.integers(len(_HAIR))] * rng.uniform(0.7, 1.2),
        backdrop=rng.uniform(20, 220, 3),
        shape=rng.uniform(0.93, 1.07, 8),
        rest=rng.normal(0, 0.05, len(CUES)),
        fringe=rng.uniform(0.05, 0.45),
        beard=rng.random() < 0.2,
        glasses=rng.random() < 0.25,
        light=rng.uniform(0.75, 1.15) * rng.uniform(0.9, 1.1, 3),
        slope=rng.uniform(-0.35, 0.35, 2),
        blur=rng.choice([0.0, 0.0, 0.5, 0.8]),
        grain=rng.uniform(1, 9),
    )


@dataclass(frozen=True)
class Motion:
    """What a face does, frame by frame."""

    cues: Track
    """(T, 8), in the order of :data:`CUES`."""
    gaze: Track
    """(T, 2)"""
    pose: Track
    """(T, 4): turn, nod, roll in degrees, size as a power of e."""
    light: Track
    """(T,) gain."""
    cover: Track
    """(T, 3): x, y and radius of what hides a part of the face, in crops; radius 0 where nothing does."""


def draw_motion(
    rng: np.random.Generator,
    identity: Identity,
    labels: Labels,
    fps: float,
    mouth: Track,
    weakest: float = WEAKEST,
) -> Motion:
    """Move a face after its expressions, and its mouth with its voice.

    Args:
        rng: Source of chance.
        identity: Whose face.
        labels: int64 (T,), the expression of each frame.
        fps: Frames a second.
        mouth: (T,) loudness of the person's own voice, 0 to 1.
        weakest: Least strength of an expression.
    """
    num = len(labels)
    cues = identity.rest + follow(rng, labels, PROTOTYPES, fps, weakest=weakest, noise=0.1)
    cues[:, 4] += 0.2 * mouth
    for blink in np.flatnonzero(rng.random(num) < 0.25 / fps):
        cues[blink : blink + max(2, round(0.15 * fps)), 2] = -1.1
    pose = wander(rng, num, fps, 1.0, 4) * [0.4, 0.3, 5.0, 0.04]
    cover = np.zeros((num, 3))
    for start in np.flatnonzero(rng.random(num) < 0.08 / fps):
        span = slice(start, start + round(rng.uniform(0.3, 1.2) * fps))
        cover[span] = *rng.uniform(0.1, 0.9, 2), rng.uniform(0.12, 0.28)
    return Motion(
        cues,
        gaze=wander(rng, num, fps, 0.8, 2),
        pose=pose,
        light=1 + 0.08 * wander(rng, num, fps, 1.5)[:, 0],
        cover=cover,
    )


def draw_face(rng: np.random.Generator, identity: Identity, motion: Motion, frame: int) -> Image:
    """Draw one aligned crop.

    Args:
        rng: Source of the noise.
        identity: Whose face.
        motion: What it does.
        frame: Which moment of ``motion``.

    Returns:
        uint8 (112, 112, 3), RGB.
    """
    canvas = np.empty((_SIDE, _SIDE, 3), np.uint8)
    canvas[:] = identity.backdrop
    _paint(canvas, identity, motion.cues[frame], motion.gaze[frame], motion.pose[frame])
    x, y, radius = motion.cover[frame] * _SIDE
    if radius:
        _ellipse(canvas, (x, y), (radius, radius * 1.3), identity.skin * 0.9, angle=30)
        _ellipse(canvas, (x, y + radius), (radius * 0.7, radius), identity.backdrop[::-1] * 0.8, angle=30)
    roll, size = motion.pose[frame, 2], float(np.exp(motion.pose[frame, 3]))
    turned = cv2.getRotationMatrix2D((_SIDE / 2, _SIDE / 2), roll, size)
    rolled = cv2.warpAffine(canvas, turned, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE)
    crop = np.asarray(cv2.resize(rolled, (CROP, CROP), interpolation=cv2.INTER_AREA), np.float32)
    if identity.blur:
        crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), identity.blur), np.float32)
    ramp = np.linspace(-1, 1, CROP, dtype=np.float32)
    gain = motion.light[frame] * (1 + identity.slope[0] * ramp[None, :] + identity.slope[1] * ramp[:, None])
    crop *= gain[..., None] * identity.light.astype(np.float32)
    crop += identity.grain * rng.standard_normal(crop.shape, dtype=np.float32)
    return crop.clip(0, 255).astype(np.uint8)


def _paint(canvas: Image, who: Identity, cues: Track, gaze: Track, pose: Track) -> None:
    """Draw the face itself; a turn of the head moves the features over the skull."""
    lift, tilt, eyes, curve, opening, width, wrinkle, skew = cues
    face_w, eye_gap, eye_size, brow_thick, brow_height, mouth_y, mouth_w, lips = who.shape
    turn, nod = 14 * pose[0], 10 * pose[1]
    cx, cy = 112 + turn, 112 + nod
    dark, lip = who.skin * 0.62, who.skin * [0.86, 0.55, 0.55]

    _ellipse(canvas, (112, 96), (106 * face_w, 118), who.hair)
    _ellipse(canvas, (112, 122), (90 * face_w, 112), who.skin)
    _ellipse(canvas, (112 + turn / 2, 2), (84 * face_w, 22 + 40 * who.fringe), who.hair)
    if who.beard:
        _ellipse(canvas, (112 + turn / 2, 196 + nod), (66 * face_w, 46), who.skin * 0.6 + who.hair * 0.3)
        _ellipse(canvas, (112 + turn / 2, 174 + nod), (50 * face_w, 38), who.skin * 0.9)

    for side in (-1, 1):
        x, y = cx + side * 40 * eye_gap, cy - 22
        half_w, half_h = 19 * eye_size, max(1.2, 9 * eye_size * (1 + 0.85 * eyes))
        _ellipse(canvas, (x, y), (half_w, half_h), (236, 236, 232))
        iris = min(8.5, half_h + 1)
        _ellipse(canvas, (x + 4 * gaze[0], y + 1.5 * gaze[1]), (8.5, iris), (52, 40, 34))
        _line(canvas, _arc((x, y - half_h), half_w * 1.1, -0.35 * half_h), dark * 0.6, 3)
        # Brow: tilt > 0 lifts the inner end (sorrow), tilt < 0 lowers it (anger).
        brow_y = y - 28 * brow_height - 13 * lift
        inner, outer = brow_y - 14 * tilt, brow_y + 8 * tilt
        span = np.linspace(0, 1, 9)
        brow = np.stack(
            [x + side * (span * 48 - 24), inner + (outer - inner) * span - 14 * span * (1 - span)], 1
        )
        # Never lighter than the skin: brows must be seen on every face.
        _line(canvas, brow, np.minimum(who.hair * 0.8, who.skin * 0.45), 7 * brow_thick)
        if who.glasses:
            _ellipse(canvas, (x, y), (29, 23), (40, 38, 40), thickness=3)
        if wrinkle > 0.1:  # from nostril to mouth corner, and over the nose
            fold = np.array([[cx + side * 20, cy + 30], [cx + side * 34, cy + 44], [cx + side * 36, cy + 58]])
            shade = who.skin * (1 - 0.35 * min(wrinkle, 1.0))
            _line(canvas, fold, shade, 3)
            _line(canvas, np.array([[cx + side * 6, cy - 30], [cx + side * 8, cy - 14]]), shade, 3)
    _line(canvas, np.array([[cx + 3, cy - 8], [cx + 9, cy + 26], [cx - 8, cy + 28]]), who.skin * 0.8, 3)

    half = 32 * mouth_w * (1 + 0.35 * width)
    y = cy + 60 * mouth_y
    span = np.linspace(-1, 1, 17)
    bend = -16 * curve * (span**2 - 0.5) + 12 * skew * span
    gap = 22 * max(opening, 0.0) * (1 - span**2)
    x = cx + half * span
    upper, lower = np.stack([x, y + bend - 0.6 * gap], 1), np.stack([x, y + bend + gap], 1)
    _polygon(canvas, np.concatenate([upper, lower[::-1]]), (70, 22, 28))
    if curve > 0.5 and opening > 0.15:
        _polygon(canvas, np.concatenate([upper, (upper * 0.6 + lower * 0.4)[::-1]]), (232, 230, 224))
    for edge, thick in ((upper, 4 * lips), (lower, 6 * lips)):
        _line(canvas, edge, lip, thick)


def _fixed(points: Track) -> NDArray[np.int32]:
    return np.round(points * (1 << _SHIFT)).astype(np.int32)


def _ellipse(
    canvas: Image,
    centre: tuple[float, float],
    axes: tuple[float, float],
    colour: Track | tuple[int, ...],
    angle: float = 0,
    thickness: int = -1,
) -> None:
    where, size = _fixed(np.array(centre)), _fixed(np.array(axes))
    rgb = np.clip(colour, 0, 255).tolist()
    cv2.ellipse(canvas, where.tolist(), size.tolist(), angle, 0, 360, rgb, thickness, cv2.LINE_AA, _SHIFT)


def _line(canvas: Image, points: Track, colour: Track, thickness: float) -> None:
    rgb = np.clip(colour, 0, 255).tolist()
    cv2.polylines(canvas, [_fixed(points)], False, rgb, max(1, round(thickness)), cv2.LINE_AA, _SHIFT)


def _polygon(canvas: Image, points: Track, colour: tuple[int, ...]) -> None:
    cv2.fillPoly(canvas, [_fixed(points)], colour, cv2.LINE_AA, _SHIFT)


def _arc(centre: tuple[float, float], half: float, rise: float) -> Track:
    span = np.linspace(-1, 1, 9)
    return np.stack([centre[0] + half * span, centre[1] - rise * span**2], 1)
