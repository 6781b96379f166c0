"""Pictures of raw videos by frame number.

PyAV decodes, always forward. decord is not used: its random access gives other pictures than asked for,
without an error, in AVI, in MPEG streams, and wherever a codec older than H.264 has B-frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from abaw.data.display import Display, deinterlace
from abaw.data.packets import decode_pictures, open_media, picture_stream, survey, unreadable
from abaw.errors import InputError

_SAME_TIME: Final = 1e-4


class VideoReader:
    """The pictures of one video file, as players show them, best read in ascending order.

    Turned and mirrored as the file says, with square pixels, deinterlaced, RGB, see `abaw.data.display`.
    Decoding goes on from where the last call ended; asking for an earlier picture starts again. In the place
    of a picture that turns out to be damaged the one before it is shown on; one warning says how many.

    Args:
        path: Any file that FFmpeg reads.

    Attributes:
        num_frames: How many pictures the file holds.
        times: float64 (N,), when they are shown, in seconds on the file's clock.

    Raises:
        InputError: The file can't be opened, or no picture of it can be decoded.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such video file.")
        self._path = path
        found = survey(path)
        self.times = found.picture_times
        self.num_frames = len(self.times)
        self._shifts = found.shifts
        self._has_timestamps = found.has_timestamps
        self._has_warned = False
        self._pictures = self._decode()
        first = next(self._pictures, None)
        if first is None:
            raise InputError(f"{path}: none of its pictures can be decoded; get the file again.")
        self._display = Display(first[1], found.pixel_aspect)
        self._asked = 0
        self._number, self._picture = first
        self._coming = next(self._pictures, None)

    def read(self, frames: Sequence[int]) -> NDArray[np.uint8]:
        """Decode some pictures.

        Args:
            frames: n frame numbers, 0-based, in order of presentation.

        Returns:
            uint8 (n, H, W, 3), RGB, in the order asked for.

        Raises:
            IndexError: A number is outside 0…num_frames-1.
        """
        if outside := [frame for frame in frames if not 0 <= frame < self.num_frames]:
            raise IndexError(f"frame {outside[0]} of a video of {self.num_frames} frames")
        pictures = {frame: self._advance(frame) for frame in sorted(set(frames))}
        return np.stack([pictures[frame] for frame in frames])

    def _advance(self, frame: int) -> NDArray[np.uint8]:
        if frame < self._asked:
            self._pictures = self._decode()
            self._number, self._picture = next(self._pictures)
            self._coming = next(self._pictures, None)
        self._asked = frame
        while self._number < frame and self._coming is not None and self._coming[0] <= frame:
            self._number, self._picture = self._coming
            self._coming = next(self._pictures, None)
        if self._number != frame and not self._has_warned:
            self._has_warned = True
            lost = self.num_frames - sum(1 for _ in self._decode())
            warnings.warn(
                f"{self._path}: {lost} of {self.num_frames} pictures can't be decoded; in the place of each "
                "the one before is shown on.",
                stacklevel=3,
            )
        return self._display.show(self._picture)

    def _decode(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the pictures with their numbers; a time that is a later one's shows that some are lost."""
        number = -1
        for picture in deinterlace(decode_pictures(self._path, self._shifts)):
            number += 1
            if self._has_timestamps and picture.time is not None:
                later = int(np.searchsorted(self.times, picture.time - _SAME_TIME))
                if number < later < self.num_frames and self.times[later] - picture.time < _SAME_TIME:
                    number = later
            if number < self.num_frames:
                yield number, picture


def picture_rate(path: Path) -> float | None:
    """How many pictures a second a file says that it shows, 0 if it doesn't say; None for sound alone.

    Raises:
        InputError: The file can't be opened.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such video file.")
    try:
        with open_media(path) as container:
            stream = picture_stream(container)
            return None if stream is None else float(stream.average_rate or 0)
    except av.FFmpegError as error:
        raise unreadable(path, error) from error
