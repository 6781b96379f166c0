"""Face crops of a video of one's own, laid out as Aff-Wild2 lays them out."""

from __future__ import annotations

import math
from collections.abc import Callable
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

_LONGEST_SIDE: Final = 640
"""Larger pictures are made smaller for the search: faces of some 20 pixels are still found."""


class FaceDetector:
    """Finds the largest face of a picture with YuNet and brings it upright (Wu et al. 2023, *YuNet*).

    Args:
        weights: YuNet's ONNX file, see OpenCV's model zoo: ``face_detection_yunet_2023mar.onnx``.
        size: Height and width of the crop, pixels.
        min_score: The least score of a face, 0 to 1.

    Raises:
        InputError: The weights can't be read.
    """

    def __init__(self, weights: str | Path, size: int = 112, min_score: float = 0.6) -> None:
        self.size = size
        if not Path(weights).is_file():
            raise InputError(f"{weights}: no such file; give YuNet's weights, an ONNX file.")
        try:
            self._network = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), min_score)
        except cv2.error as error:
            raise InputError(f"{weights}: can't be read as YuNet's weights; get them again.") from error

    def __call__(self, picture: Picture) -> Picture | None:
        """Crop the largest face.

        Args:
            picture: uint8 (H, W, 3), RGB.

        Returns:
            uint8 (size, size, 3), RGB: the face with its eyes on a level, its box's longer side as long as
            the crop's; None where there is no face.
        """
        scale = min(1.0, _LONGEST_SIDE / max(picture.shape[:2]))
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._network.setInputSize(small.shape[1::-1])
        _, faces = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if faces is None:
            return None
        x, y, width, height, *eyes = max(faces, key=lambda face: face[2] * face[3])[:8] / scale
        centre = (float(x + width / 2), float(y + height / 2))
        # The eyes come as right and left of the person, which is left and right of the picture.
        tilt = math.degrees(math.atan2(eyes[3] - eyes[1], eyes[2] - eyes[0]))
        upright = cv2.getRotationMatrix2D(centre, tilt, self.size / float(max(width, height)))
        upright = upright + [[0, 0, self.size / 2 - centre[0]], [0, 0, self.size / 2 - centre[1]]]
        return cast(Picture, cv2.warpAffine(picture, upright, (self.size, self.size)))


def write_crops(
    video: str | Path, folder: str | Path, find_face: Callable[[Picture], Picture | None]
) -> NDArray[np.bool_]:
    """Write the face of each picture of a video as ``00001.jpg`` and so on; none where there is no face.

    Args:
        video: Any file that FFmpeg reads; it is read once, a picture at a time.
        folder: Where the crops go, made if need be.
        find_face: A picture to its face, or None: a `FaceDetector`, or a function of one's own.

    Returns:
        bool (N,), in which pictures a face was found.

    Raises:
        InputError: The video can't be read, or the folder can't be written.
    """
    folder = Path(folder)
    make_writable(folder)
    reader = VideoReader(Path(video))
    found = np.zeros(reader.num_frames, dtype=np.bool_)
    for frame in range(reader.num_frames):
        face = find_face(reader.read([frame])[0])
        if face is not None:
            found[frame] = True
            _write_jpeg(folder / crop_name(frame), face)
    return found


def _write_jpeg(path: Path, picture: Picture) -> None:
    quality: list[Any] = [cv2.IMWRITE_JPEG_QUALITY, 95]
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality):
        raise InputError(f"{path}: can't be written; is the disk full?")
