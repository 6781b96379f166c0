"""A decoded picture as a player shows it: turned, of square pixels, deinterlaced, RGB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

# Of pixels that are said to be more oblong than this nothing is true.
_MOST_OBLONG: Final = 4.0


class Display:
    """Shows the pictures of one video.

    Colours are converted by the matrix and the range that the file states (BT.601 and limited range where it
    states none, as FFmpeg does); alpha is left out, and HDR is not tone-mapped. All pictures have the size
    of the first one: another, as a call may change to, is fitted into it, with black borders.

    Args:
        first: The first picture.
        aspect: Width of a pixel through its height.
    """

    def __init__(self, first: av.VideoFrame, aspect: float) -> None:
        self._aspect = aspect if 1 / _MOST_OBLONG <= aspect <= _MOST_OBLONG else 1.0
        self._reformatter = VideoReformatter()
        self._canvas = self._shown(first, _orientation(first)[0])

    def show(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Show a picture, uint8 (H, W, 3), RGB."""
        is_lying, *flips = _orientation(frame)
        shown = self._shown(frame, is_lying)
        if shown != self._canvas:
            scale = min(whole / size for whole, size in zip(self._canvas, shown, strict=True))
            shown = max(1, round(shown[0] * scale)), max(1, round(shown[1] * scale))
        height, width = shown[::-1] if is_lying else shown
        is_scaled = (height, width) != (frame.height, frame.width)
        interpolation = Interpolation.BICUBIC if is_scaled else Interpolation.BILINEAR
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=interpolation)
        picture = rgb.to_ndarray().astype(np.uint8, copy=False)
        if is_lying:
            picture = picture.swapaxes(0, 1)
        picture = picture[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
        return picture if shown == self._canvas else _framed(picture, self._canvas)

    def _shown(self, frame: av.VideoFrame, is_lying: bool) -> tuple[int, int]:
        """Height and width of a picture as it is shown: the shorter side grows, so that nothing is lost."""
        height, width = round(frame.height / min(self._aspect, 1)), round(frame.width * max(self._aspect, 1))
        return (width, height) if is_lying else (height, width)


def deinterlace(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield a whole picture for each frame: FFmpeg's ``bwdif`` mends those that are flagged as interlaced."""
    graph: Graph | None = None
    kind: tuple[int, int, str] | None = None
    for frame in frames:
        its_kind = (frame.width, frame.height, frame.format.name)
        if graph is not None and its_kind != kind:
            yield from _pull(graph, last=True)
            graph = None
        if graph is None and frame.interlaced_frame:
            graph, kind = _filter(frame, ("bwdif", "mode=send_frame:deint=interlaced")), its_kind
        if graph is None:
            yield frame
        else:
            graph.vpush(frame)
            yield from _pull(graph)
    if graph is not None:
        yield from _pull(graph, last=True)


def _filter(frame: av.VideoFrame, *filters: tuple[str, str]) -> Graph:
    """A chain of FFmpeg's filters for such pictures, each with its arguments."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, *(graph.add(*told) for told in filters), graph.add("buffersink")).configure()
    return graph


def _pull(graph: Graph, last: bool = False) -> Iterator[av.VideoFrame]:
    if last:
        graph.vpush(None)
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Whether rows and columns change places, and then whether rows and whether columns are reversed."""
    try:
        told = frame.side_data
    except ValueError:  # of a kind that is newer than PyAV, which then gives none: a photo's EXIF data
        told = _with_known_data(frame).side_data
    matrix: Any = told.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]
    if matrix is None:
        return False, False, False
    # x' = a x + c y and y' = b x + d y, to the nearest quarter of a turn.
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


def _with_known_data(frame: av.VideoFrame) -> av.VideoFrame:
    """The picture without what FFmpeg tells of it and PyAV has no name for."""
    named: Any = SideDataType  # PyAV's stubs say nothing of the values
    newest = max(kind.value for kind in named)
    graph = _filter(
        frame, *(("sidedata", f"mode=delete:type={kind}") for kind in range(newest + 1, newest + 17))
    )
    graph.vpush(frame)
    return graph.vpull()


def _framed(picture: NDArray[np.uint8], canvas: tuple[int, int]) -> NDArray[np.uint8]:
    missing = [whole - size for whole, size in zip(canvas, picture.shape, strict=False)]
    borders = [(size // 2, size - size // 2) for size in missing]
    return np.pad(picture, (*borders, (0, 0)))
