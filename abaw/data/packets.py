"""What the packets of a video file tell before anything is decoded: its pictures, and its one clock.

A file can hold several clocks one after the other, such as MPEG streams that were joined with ``cat``: each
goes on where the one before ended, for pictures and sound alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from abaw.errors import InputError

Packet: TypeAlias = "av.Packet[Any]"
Shifts: TypeAlias = dict[int, list[tuple[int, float]]]
"""By a stream's index: from which of its packets on, by how many seconds its timestamps are shifted."""

# A clock that goes back further than a muxer rounds, or leaps ahead further than any hole, is another one.
_LARGEST_STEP_BACK: Final = 0.05
_LARGEST_HOLE: Final = 3600.0
# The streams of a file come to the place where its clock changes one after the other, within seconds.
_LONGEST_INTERLEAVING: Final = 1.0
_FALLBACK_RATE: Final = 25.0


def open_media(path: Path) -> InputContainer:
    """Open a file, whatever its name: FFmpeg would take ``Interview: part 1.mp4`` for a protocol."""
    return av.open(str(path.absolute()))


@dataclass(frozen=True, eq=False)
class Survey:
    """What a file holds.

    Attributes:
        picture_times: float64 (N,), when the pictures that decode are shown, in seconds on the file's one
            clock, ascending.
        has_timestamps: Whether every packet says when its picture is shown; in AVI none does, but in order.
        pixel_aspect: Width of a pixel through its height.
        shifts: What is added to the timestamps; empty for a file of one clock.
        problems: What is damaged, in words.
    """

    picture_times: NDArray[np.float64]
    has_timestamps: bool
    pixel_aspect: float
    shifts: Shifts
    problems: list[str]

    @property
    def joints(self) -> str | None:
        """How often the clock starts anew, in words; None if it doesn't."""
        if not self.shifts:
            return None
        shifts = next(iter(self.shifts.values()))
        how = "back" if shifts[0][1] > 0 else "far ahead"
        often = "once" if len(shifts) == 1 else f"{len(shifts)} times"
        return f"its clock jumps {how} {often}, as in files that were joined end to end"


class _Track:
    """The timestamps of one stream's packets, in the order of the file, NaN where one is missing."""

    def __init__(self, stream: Any, usual_duration: float) -> None:
        self._time_base = stream.time_base
        self._usual_duration = usual_duration
        self._ticks: list[tuple[int | None, int | None, int | None]] = []
        self._places: list[int] = []  # among the packets of all streams
        self._positions: list[int | None] = []  # bytes

    def add(self, packet: Packet, place: int) -> None:
        """Take the next packet; its timestamps are integers until all are there, which is faster."""
        self._ticks.append((packet.pts, packet.dts, packet.duration))
        self._places.append(place)
        self._positions.append(packet.pos)

    def finish(self) -> None:
        """Turn all timestamps into seconds, and find the packets that a clock starts with."""
        scale = self._time_base.numerator, self._time_base.denominator
        ticks = np.array(self._ticks, dtype=np.float64).reshape(-1, 3) * scale[0] / scale[1]
        pts, dts, durations = ticks.T
        self.places = np.array(self._places, dtype=np.int64)
        self.begins = np.where(np.isnan(pts), dts, pts)
        self.ends = self.begins + np.where(durations > 0, durations, self._usual_duration)
        # Where a clock starts, demuxers can take the decoding time from the clock before.
        earliest = np.fmin(pts, dts)
        known = np.flatnonzero(~np.isnan(earliest))
        steps = np.diff(earliest[known])
        self.jumps = known[1:][(steps < -_LARGEST_STEP_BACK) | (steps > _LARGEST_HOLE)].tolist()

    def first_behind(self, place: int, position: int | None) -> int:
        """The first packet behind a place in the file."""
        first = int(np.searchsorted(self.places, place))
        # A packet that is read before the place can lie behind it.
        while position is not None and first > 0 and (self._positions[first - 1] or 0) >= position:
            first -= 1
        return first

    def position(self, packet: int) -> int | None:
        """Where a packet lies in the file, in bytes, where that is known."""
        return self._positions[packet]


def survey(path: Path, voice_alone: bool = False) -> Survey:
    """Go through the packets of a file; its pictures are decoded only where the packets are suspicious.

    Args:
        path: Any file that FFmpeg reads.
        voice_alone: Whether a file that shows no pictures will do, which then has no picture's time.

    Raises:
        InputError: The file can't be read, or holds no picture.
    """
    problems: list[str] = []
    pictures: list[int] = []
    starts_on_key = has_timestamps = True
    is_damaged = False
    count = last = 0
    try:
        with open_media(path) as container:
            video = picture_stream(container)
            if video is None and not voice_alone:
                raise InputError(f"{path}: holds no picture, sound alone; give a video.")
            streams = [stream for stream in (video, *container.streams.audio[:1]) if stream is not None]
            interval = 1 / float((video and video.guessed_rate) or _FALLBACK_RATE)
            pixel_aspect = float((video and video.sample_aspect_ratio) or 1)
            tracks = {s.index: _Track(s, interval if s is video else 0.0) for s in streams}
            track = None if video is None else tracks[video.index]
            try:
                for place, packet in enumerate(container.demux(streams)):
                    if packet.size == 0 and packet.dts is None:
                        continue  # the end of a stream
                    tracks[packet.stream.index].add(packet, place)
                    if packet.stream is not video:
                        continue
                    if packet.dts is not None:
                        last = packet.dts + (packet.duration or 0)
                    if packet.size > 0 and not packet.is_discard:
                        starts_on_key = packet.is_keyframe if not pictures else starts_on_key
                        has_timestamps &= packet.pts is not None
                        is_damaged |= packet.is_corrupt
                        pictures.append(count)
                    count += 1
            except av.FFmpegError as error:
                problems.append(f"reading stops with {error.strerror!r}")
            # AVI counts pictures that are shown again and have no packet: its end tells, in pictures.
            if video is not None and count < video.frames:
                end = (video.start_time or 0) + (video.duration or 0)
                if last < (video.frames if container.format.name == "avi" else end):
                    problems.append(f"{count} of {video.frames} pictures are there")
    except (av.FFmpegError, OSError) as error:
        raise unreadable(path, error) from error
    for stream in tracks.values():
        stream.finish()
    shifts = _shifts(tracks)
    times = np.zeros(0) if track is None else track.begins[pictures]
    if len(times) and (is_damaged or problems or shifts or not starts_on_key or _are_odd(times)):
        decoded = _decoded_times(path, shifts, interval)
        if len(decoded) < len(times):
            why = "" if starts_on_key else ", since it doesn't start on a key frame"
            problems.append(f"{len(times) - len(decoded)} of {len(times)} pictures can't be decoded{why}")
        times = decoded
    if not len(times) and track is not None:
        raise InputError(f"{path}: holds no picture; get the file again.")
    return Survey(np.sort(times), has_timestamps, pixel_aspect, shifts, problems)


def demux(container: Any, stream: Any, shifts: Shifts) -> Iterator[Packet]:
    """Yield the packets of one stream on the file's one clock, up to the damage that stops the reading.

    The last one is empty: decoded, it gives what the decoder has kept back.
    """
    steps = shifts.get(stream.index, [])
    firsts = [first for first, _ in steps]
    try:
        for number, packet in enumerate(container.demux(stream)):
            if packet.size == 0 and packet.dts is None:
                break
            if part := bisect_right(firsts, number):
                _shift(packet, steps[part - 1][1])
            yield packet
    except av.FFmpegError:
        pass  # `survey` tells
    rest: Packet = av.Packet()
    rest.stream, rest.time_base = stream, stream.time_base
    yield rest


def decode_pictures(path: Path, shifts: Shifts) -> Iterator[av.VideoFrame]:
    """Yield the pictures of a file that decode, in order of presentation."""
    try:
        with open_media(path) as container:
            stream = picture_stream(container)
            assert stream is not None
            stream.thread_type = "AUTO"
            for packet in demux(container, stream, shifts):
                yield from decode(packet) or ()
    except av.FFmpegError:
        return  # whoever asks for what is missing is told


def decode(packet: Packet) -> list[Any] | None:
    """Decode a packet into frames; None if it is damaged."""
    try:
        return packet.decode()
    except av.FFmpegError:
        return None


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The stream of a file's pictures; the cover of a song is none. None where there is sound alone."""
    cover = Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & cover), None)


def unreadable(path: Path, error: av.FFmpegError | OSError) -> InputError:
    """The error of a video file that can't be opened, in words."""
    reason = error.strerror
    return InputError(f"{path}: can't be read as a video, it may be truncated; get it again. ({reason})")


def _are_odd(times: NDArray[np.float64]) -> bool:
    """Whether a time is missing, or occurs twice, or is before that of the first picture that is decoded."""
    return bool(np.isnan(times).any() or len(np.unique(times)) < len(times) or times[0] > times.min())


def _decoded_times(path: Path, shifts: Shifts, usual_interval: float) -> NDArray[np.float64]:
    times: list[float] = []
    for picture in decode_pictures(path, shifts):
        follows = times[-1] + usual_interval if times else 0.0
        times.append(follows if picture.time is None else picture.time)
    return np.array(times, dtype=np.float64)


def _shift(packet: Packet, seconds: float) -> None:
    ticks = round(seconds / packet.time_base)
    pts, dts = packet.pts, packet.dts
    if pts is not None:
        packet.pts = pts + ticks
        dts = pts if dts is None else min(pts, dts)
    if dts is not None:
        packet.dts = dts + ticks


def _shifts(tracks: dict[int, _Track]) -> Shifts:
    """Where the clock of each stream starts anew, and what makes it go on."""
    joints = _joints(tracks)
    if not joints:
        return {}
    shifts: Shifts = {index: [] for index in tracks}
    ends: dict[int, float] = {}
    shift = 0.0
    for part in range(len(joints) + 1):
        begins: dict[int, float] = {}
        last: dict[int, float] = {}
        for index, track in tracks.items():
            first = joints[part - 1][index] if part else 0
            stop = joints[part][index] if part < len(joints) else None
            known = ~np.isnan(track.begins[first:stop])
            if known.any():
                begins[index] = float(track.begins[first:stop][known].min())
                last[index] = float(track.ends[first:stop][known].max())
        # No stream may begin before it has ended; one that is in both parts goes on without a gap.
        gaps = [ends[index] - begin for index, begin in begins.items() if index in ends]
        if part:
            shift = max(gaps, default=shift)
            for index in tracks:
                shifts[index].append((joints[part - 1][index], shift))
        ends |= {index: end + shift for index, end in last.items()}
    return shifts


def _joints(tracks: dict[int, _Track]) -> list[dict[int, int]]:
    """The places where the clock starts anew: for each, by a stream's index, its first packet behind it."""
    jumps = sorted((int(track.places[j]), index, j) for index, track in tracks.items() for j in track.jumps)
    joints: list[dict[int, int]] = []
    opened_at = 0
    for place, index, jump in jumps:
        track = tracks[index]
        if joints and index not in joints[-1]:
            # Packets of the old clock, read since another stream came to the new one.
            waited = track.begins[track.first_behind(opened_at, None) : jump]
            if not len(waited) or not waited[-1] - waited[0] >= _LONGEST_INTERLEAVING:
                joints[-1][index] = jump
                continue
        joints.append({index: jump})
        opened_at = place
    for joint in joints:
        index, jump = next(iter(joint.items()))
        place, position = int(tracks[index].places[jump]), tracks[index].position(jump)
        for other, track in tracks.items():
            joint.setdefault(other, track.first_behind(place, position))
    return joints
