"""Face crops of a video of one's own, laid out as Aff-Wild2 lays them out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from abaw.data.crops import crop_name
from abaw.data.video import VideoReader
from abaw.errors import InputError
from abaw.files import make_writable

Picture = NDArray[np.uint8]
"""uint8 (H, W, 3), RGB."""

Faces = NDArray[np.float32]
"""float32 (F, 14): left, top, width and height of each face's box, then x and y of its right eye, left eye,
nose and corners of the mouth, in pixels of the picture."""

_LONGEST_SIDE: Final = 640
"""Larger pictures are made smaller for the search: faces of some 20 pixels are still found."""
_SIMILAR: Final = 0.5
"""Faces with at least this share of the largest one's area are of similar size."""
_SAME_FACE: Final = 0.1
"""The least overlap of a face's box in one picture and the next."""
_PATIENCE: Final = 15
"""For how many pictures a face may be missing before somebody else is followed."""


class FaceDetector:
    """Finds the faces of a picture with YuNet and brings one upright (Wu et al. 2023, *YuNet*).

    Args:
        weights: YuNet's ONNX file, see OpenCV's model zoo: ``face_detection_yunet_2023mar.onnx``.
        size: Height and width of the crop, pixels.
        min_score: The least score of a face, 0 to 1.

    Raises:
        InputError: The weights can't be read.
    """

    def __init__(self, weights: str | Path, size: int = 112, min_score: float = 0.6) -> None:
        self.size = size
        weights = Path(weights).expanduser()
        if not weights.is_file():
            raise InputError(f"{weights}: no such file; give YuNet's weights, an ONNX file.")
        try:
            with _quiet_opencv():
                self._network = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), min_score)
        except cv2.error as error:
            raise InputError(f"{weights}: can't be read as YuNet's weights; get them again.") from error

    def __call__(self, picture: Picture) -> Picture | None:
        """Crop the largest face.

        Args:
            picture: uint8 (H, W, 3), RGB.

        Returns:
            uint8 (size, size, 3), RGB, see :meth:`crop`; None where there is no face.
        """
        faces = self.find(picture)
        return self.crop(picture, faces[_areas(faces).argmax()]) if len(faces) else None

    def find(self, picture: Picture) -> Faces:
        """Find all faces of a picture, uint8 (H, W, 3), RGB."""
        scale = min(1.0, _LONGEST_SIDE / max(picture.shape[:2]))
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._network.setInputSize(small.shape[1::-1])
        _, faces = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if faces is None:
            return np.zeros((0, 14), dtype=np.float32)
        return np.asarray(faces[:, :14] / scale, dtype=np.float32)

    def crop(self, picture: Picture, face: NDArray[np.float32]) -> Picture:
        """Bring a face upright.

        Args:
            picture: uint8 (H, W, 3), RGB.
            face: float32 (14,), a row of what :meth:`find` found in it.

        Returns:
            uint8 (size, size, 3), RGB: the face with its eyes on a level, its box's longer side as long as
            the crop's.
        """
        x, y, width, height, *eyes = face[:8]
        centre = (float(x + width / 2), float(y + height / 2))
        # The eyes come as right and left of the person, which is left and right of the picture.
        tilt = math.degrees(math.atan2(eyes[3] - eyes[1], eyes[2] - eyes[0]))
        upright = cv2.getRotationMatrix2D(centre, tilt, self.size / float(max(width, height)))
        upright = upright + [[0, 0, self.size / 2 - centre[0]], [0, 0, self.size / 2 - centre[1]]]
        return cast(Picture, cv2.warpAffine(picture, upright, (self.size, self.size)))


class FaceFollower:
    """Crops the largest face of each picture of one video, and stays with a person where others are as large.

    Of the faces that are at least half as large as the largest one, that which overlaps the last one is
    taken. Where it is missing for a moment (up to 15 pictures), another person, who was in the picture
    before, doesn't stand in for it: there is no crop. These are no tracks: who leaves and comes back is
    somebody new.

    Args:
        detector: Finds the faces.

    Attributes:
        num_pictures: How many pictures it was given.
        num_rivals: How many of them show several faces of similar size.
        num_switches: How often it went over to another person though the former was still there, or to one
            who was there before.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._box: NDArray[np.float32] | None = None
        self._others = np.zeros((0, 14), dtype=np.float32)
        self._missed = 0
        self.num_pictures = self.num_rivals = self.num_switches = 0

    def __call__(self, picture: Picture) -> Picture | None:
        """Crop the face that is followed out of the next picture, uint8 (H, W, 3), RGB; None without it."""
        faces = self._detector.find(picture)
        chosen = self._choose(faces)
        self.num_pictures += 1
        if chosen is None:
            self._missed += 1
            self._others = faces if len(faces) else self._others
            return None
        self._missed = 0
        self._box = faces[chosen]
        self._others = np.delete(faces, chosen, axis=0)
        return self._detector.crop(picture, faces[chosen])

    def describe(self) -> str | None:
        """What to tell whoever takes the crops for one person's; None if there is nothing to tell."""
        if not (self.num_rivals or self.num_switches):
            return None
        return (
            f"{self.num_rivals} of {self.num_pictures} pictures show several faces of similar size; one is "
            f"followed (changes of the person: {self.num_switches}); give crops to choose whom"
        )

    def _choose(self, faces: Faces) -> int | None:
        if len(faces) == 0:
            return None
        areas = _areas(faces)
        similar = areas >= _SIMILAR * areas.max()
        self.num_rivals += int(similar.sum() > 1)
        largest = int(areas.argmax())
        if self._box is None:
            return largest
        overlaps = _overlaps(faces, self._box)
        if (overlaps * similar).max() >= _SAME_FACE:
            return int((overlaps * similar).argmax())
        still_there = overlaps.max() >= _SAME_FACE
        was_there = bool((_overlaps(self._others, faces[largest]) >= _SAME_FACE).any())
        if was_there and not still_there and self._missed < _PATIENCE:
            return None
        self.num_switches += int(still_there or was_there)
        return largest


def write_crops(
    video: str | Path,
    folder: str | Path,
    find_face: Callable[[Picture], Picture | None],
    tell: Callable[[int, int], object] | None = None,
) -> NDArray[np.bool_]:
    """Write the face of each picture of a video as ``00001.jpg`` and so on; none where there is no face.

    Args:
        video: Any file that FFmpeg reads; it is read once, a picture at a time.
        folder: Where the crops go, made if need be.
        find_face: A picture to its face, or None: a `FaceDetector`, a `FaceFollower`, or a function
            of one's own.
        tell: Called after each picture with how many are done, and of how many.

    Returns:
        bool (N,), in which pictures a face was found.

    Raises:
        InputError: The video can't be read, or the folder can't be written.
    """
    folder = Path(folder).expanduser()
    make_writable(folder)
    reader = VideoReader(Path(video).expanduser())
    found = np.zeros(reader.num_frames, dtype=np.bool_)
    for frame in range(reader.num_frames):
        face = find_face(reader.read([frame])[0])
        if face is not None:
            found[frame] = True
            _write_jpeg(folder / crop_name(frame), face)
        if tell is not None:
            tell(frame + 1, reader.num_frames)
    return found


def _write_jpeg(path: Path, picture: Picture) -> None:
    quality: list[Any] = [cv2.IMWRITE_JPEG_QUALITY, 95]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)
    try:
        path.write_bytes(encoded.tobytes())  # `imwrite` would not say why it can't
    except OSError as error:
        raise InputError(
            f"{path}: can't be written ({error.strerror}); make room, or set TMPDIR where it is temporary."
        ) from error


def _areas(faces: Faces) -> NDArray[np.float32]:
    return np.asarray(faces[:, 2] * faces[:, 3])


def _overlaps(faces: Faces, face: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much of both boxes together each face's box shares with that of ``face`` (IoU), (F,), 0 to 1."""
    least = np.maximum(faces[:, :2], face[:2])
    most = np.minimum(faces[:, :2] + faces[:, 2:4], face[:2] + face[2:4])
    shared = (most - least).clip(0).prod(axis=1)
    return np.asarray(shared / (_areas(faces) + face[2] * face[3] - shared))


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from warning of how its networks run, which no user can change."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logging.setLogLevel(level)
