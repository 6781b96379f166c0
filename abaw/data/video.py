"""Pictures of raw videos by frame number, read by decord where it is installed and by PyAV elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from abaw.errors import InputError


class VideoReader(ABC):
    """Random access to the pictures of one video file.

    Attributes:
        num_frames: How many pictures the file holds.
    """

    num_frames: int

    @abstractmethod
    def read(self, frames: Sequence[int]) -> NDArray[np.uint8]:
        """Decode some pictures.

        Args:
            frames: n frame numbers, 0-based, in order of presentation.

        Returns:
            uint8 (n, H, W, 3), RGB, in the order asked for.

        Raises:
            IndexError: A number is outside 0…num_frames-1.
        """

    def _check(self, frames: Sequence[int]) -> None:
        if outside := [frame for frame in frames if not 0 <= frame < self.num_frames]:
            raise IndexError(f"frame {outside[0]} of a video of {self.num_frames} frames")


def open_video(path: Path, backend: Literal["decord", "pyav"] | None = None) -> VideoReader:
    """Open a video file for its pictures.

    Args:
        path: Any file that FFmpeg reads.
        backend: Which library decodes; decord where it is installed and PyAV otherwise, if not said.

    Raises:
        InputError: The file can't be opened or holds no picture.
    """
    if backend is None:
        backend = "decord" if find_spec("decord") else "pyav"
    if not path.is_file():
        raise InputError(f"{path}: no such video file.")
    return _DecordReader(path) if backend == "decord" else _PyAVReader(path)


def unreadable(path: Path, error: Exception) -> InputError:
    """The error of a video file that can't be opened, in words."""
    reason = str(error).strip().splitlines()
    return InputError(
        f"{path}: can't be read as a video, it may be truncated; get the file again."
        + (f" ({reason[-1]})" if reason else "")
    )


def picture_time(packet: av.Packet[Any]) -> float | None:
    """When a packet's picture is shown, in seconds on the container's clock; None if it shows none.

    AVI knows no presentation timestamps: there, the decoding ones are the same.
    """
    timestamp = packet.dts if packet.pts is None else packet.pts
    if timestamp is None or packet.size == 0 or packet.is_discard:
        return None
    return float(timestamp * packet.time_base)


class _DecordReader(VideoReader):
    def __init__(self, path: Path) -> None:
        import decord

        try:
            self._reader = decord.VideoReader(str(path), num_threads=1)
        except (decord.DECORDError, RuntimeError) as error:
            raise unreadable(path, error) from error
        self.num_frames = len(self._reader)
        if self.num_frames == 0:
            raise InputError(f"{path}: holds no picture.")

    def read(self, frames: Sequence[int]) -> NDArray[np.uint8]:
        self._check(frames)
        pictures: NDArray[np.uint8] = self._reader.get_batch(list(frames)).asnumpy()
        return pictures


class _PyAVReader(VideoReader):
    """Decodes from the start up to the last picture asked for: meant for pictures in sequence."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with av.open(str(path)) as container:
                packets = container.demux(container.streams.video[0])
                self.num_frames = sum(picture_time(packet) is not None for packet in packets)
        except (av.FFmpegError, IndexError) as error:
            raise unreadable(path, error) from error
        if self.num_frames == 0:
            raise InputError(f"{path}: holds no picture.")

    def read(self, frames: Sequence[int]) -> NDArray[np.uint8]:
        self._check(frames)
        wanted = set(frames)
        pictures: dict[int, NDArray[np.uint8]] = {}
        with av.open(str(self._path)) as container:
            for index, picture in enumerate(container.decode(video=0)):
                if index in wanted:
                    pictures[index] = (
                        picture.reformat(format="rgb24").to_ndarray().astype(np.uint8, copy=False)
                    )
                if len(pictures) == len(wanted):
                    break
        return np.stack([pictures[frame] for frame in frames])
