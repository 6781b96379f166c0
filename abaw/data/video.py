"""Pictures of raw videos by frame number.

PyAV decodes, always forward. decord is not used: its random access gives other pictures than asked for,
without an error, in AVI, in MPEG streams, and wherever a codec older than H.264 has B-frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from abaw.errors import InputError


class VideoReader:
    """The pictures of one video file, best read in ascending order.

    Decoding goes on from where the last call ended; asking for an earlier picture starts again.

    Args:
        path: Any file that FFmpeg reads.

    Attributes:
        num_frames: How many pictures the file holds.

    Raises:
        InputError: The file can't be opened or holds no picture.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such video file.")
        self._path = path
        try:
            with av.open(str(path)) as container:
                if (stream := picture_stream(container)) is None:
                    raise InputError(f"{path}: holds no picture, sound alone; give a video.")
                packets = container.demux(stream)
                self.num_frames = sum(picture_time(packet) is not None for packet in packets)
        except av.FFmpegError as error:
            raise unreadable(path, error) from error
        if self.num_frames == 0:
            raise InputError(f"{path}: holds no picture.")
        self._pictures = self._decode()
        self._next = 0

    def read(self, frames: Sequence[int]) -> NDArray[np.uint8]:
        """Decode some pictures.

        Args:
            frames: n frame numbers, 0-based, in order of presentation.

        Returns:
            uint8 (n, H, W, 3), RGB, in the order asked for.

        Raises:
            IndexError: A number is outside 0…num_frames-1.
            InputError: The file is damaged before one of the pictures.
        """
        if outside := [frame for frame in frames if not 0 <= frame < self.num_frames]:
            raise IndexError(f"frame {outside[0]} of a video of {self.num_frames} frames")
        pictures = {frame: self._advance(frame) for frame in sorted(set(frames))}
        return np.stack([pictures[frame] for frame in frames])

    def _advance(self, frame: int) -> NDArray[np.uint8]:
        if frame < self._next:
            self._pictures, self._next = self._decode(), 0
        for picture in self._pictures:
            self._next += 1
            if self._next > frame:
                rgb = picture.to_ndarray(format="rgb24")
                return rgb.astype(np.uint8, copy=False)
        raise InputError(f"{self._path}: breaks off after {self._next} of {self.num_frames} pictures.")

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            with av.open(str(self._path)) as container:
                stream = picture_stream(container)
                assert stream is not None
                stream.thread_type = "AUTO"
                yield from container.decode(stream)
        except av.FFmpegError:
            return  # whoever asks for what is missing is told


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The stream of a file's pictures; the cover of a song is none. None where there is sound alone."""
    cover = Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & cover), None)


def picture_rate(path: Path) -> float | None:
    """How many pictures a second a file says that it shows, 0 if it doesn't say; None for sound alone.

    Raises:
        InputError: The file can't be opened.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such video file.")
    try:
        with av.open(str(path)) as container:
            stream = picture_stream(container)
            return None if stream is None else float(stream.average_rate or 0)
    except av.FFmpegError as error:
        raise unreadable(path, error) from error


def picture_time(packet: av.Packet[Any]) -> float | None:
    """When a packet's picture is shown, in seconds on the container's clock; None if it shows none.

    AVI knows no presentation timestamps: there, the decoding ones are the same.
    """
    timestamp = packet.dts if packet.pts is None else packet.pts
    if timestamp is None or packet.size == 0 or packet.is_discard:
        return None
    return float(timestamp * packet.time_base)


def unreadable(path: Path, error: Exception) -> InputError:
    """The error of a video file that can't be opened, in words."""
    reason = error.strerror if isinstance(error, (av.FFmpegError, OSError)) else "it has no video track"
    return InputError(f"{path}: can't be read as a video, it may be truncated; get it again. ({reason})")
