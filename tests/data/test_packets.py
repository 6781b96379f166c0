"""Streams as they are found: joined, cut, damaged. A flash and a click that were one moment stay one."""

import warnings
from pathlib import Path

import av
import numpy as np
import pytest
from aff_wild2_files import clicks, find_clicks, write_media

from abaw.data.audio import SAMPLE_RATE, cache_sound
from abaw.data.video import VideoReader

REAL = Path(__file__).parents[2].parent / "shared" / "real"
FLASHES = (20, 45)
RATE = {"rate": 25, "sound_rate": 48_000}


def write_flashes(path: Path, num_frames: int = 60, **media) -> bytes:
    """A video in which two pictures flash, each with a click."""
    sound = clicks(num_frames / 25, [flash / 25 for flash in FLASHES], 48_000)
    write_media(path, num_frames, sound=sound, flashes=FLASHES, **{**RATE, **media})
    return path.read_bytes()


def moments(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """When it flashes and when it clicks; whether pictures and times tell of the same pictures."""
    track = cache_sound(path, path.with_suffix(".safetensors"))
    reader = VideoReader(path)
    assert reader.num_frames == len(track.picture_times)
    np.testing.assert_array_equal(reader.times, track.picture_times)
    assert (np.diff(reader.times) > 0).all()
    brightness = reader.read(range(reader.num_frames)).mean(axis=(1, 2, 3))
    sound = track.read(0, int(track.spans.max(initial=0)))
    return track.picture_times[brightness > 128], track.start + find_clicks(sound) / SAMPLE_RATE


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
@pytest.mark.parametrize("copies", [2, 3])
def test_joined_streams_go_on(tmp_path: Path, suffix: str, copies: int):
    data = write_flashes(tmp_path / f"a{suffix}")
    joined = tmp_path / f"v{suffix}"
    joined.write_bytes(data * copies)
    times = {1: "once", 2: "2 times"}[copies - 1]
    with pytest.warns(UserWarning, match=rf"v\{suffix}: its clock jumps back {times}.*go on") as caught:
        flashes, heard = moments(joined)
    assert len(caught) == 1, "and nothing is damaged"
    assert len(flashes) == len(heard) == 2 * copies
    np.testing.assert_allclose(heard, flashes, atol=0.02)
    # A part begins where the one before ended, but for what its sound is longer.
    np.testing.assert_allclose(np.diff(flashes[::2]), 60 / 25, atol=0.12)
    assert VideoReader(joined).num_frames == 60 * copies


def test_a_part_without_sound_and_a_part_that_is_hours_away_go_on(tmp_path: Path):
    parts = [write_flashes(tmp_path / "a.ts")]
    write_media(tmp_path / "b.ts", 60, flashes=FLASHES)
    parts += [(tmp_path / "b.ts").read_bytes()]
    parts += [write_flashes(tmp_path / "c.ts", options={"output_ts_offset": "30000"})]
    (tmp_path / "v.ts").write_bytes(b"".join(parts))
    with pytest.warns(UserWarning, match="its clock jumps back 2 times"):
        flashes, heard = moments(tmp_path / "v.ts")
    assert len(flashes) == 6
    np.testing.assert_allclose(heard, flashes[[0, 1, 4, 5]], atol=0.02)
    np.testing.assert_allclose(np.diff(flashes[::2]), 60 / 25, atol=0.12)


def test_a_clock_that_wraps_round_goes_on_without_a_word(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    """MPEG's clock has 33 bits: a second before its end."""
    write_flashes(tmp_path / "v.ts", options={"output_ts_offset": str(2**33 / 90_000 - 1.4 - 1)})
    flashes, heard = moments(tmp_path / "v.ts")
    assert not recwarn.list
    np.testing.assert_allclose(np.diff(flashes), 1.0, atol=1e-3)
    np.testing.assert_allclose(heard, flashes, atol=0.02)


@pytest.mark.parametrize("start", [-0.4, 0.7])
@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_a_clock_may_begin_anywhere(tmp_path: Path, suffix: str, start: float):
    options = {"avoid_negative_ts": "disabled", "output_ts_offset": str(start)}
    write_flashes(tmp_path / f"v{suffix}", options=options)
    flashes, heard = moments(tmp_path / f"v{suffix}")
    assert len(flashes) == 2
    np.testing.assert_allclose(heard, flashes, atol=0.02)


def decoded_times(path: Path) -> list[float]:
    times = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                times += [frame.time for frame in packet.decode()]
            except av.FFmpegError:
                continue
    return times


def test_pictures_before_the_first_key_frame_count_as_far_as_they_decode(tmp_path: Path):
    data = write_flashes(tmp_path / "a.ts")
    with av.open(str(tmp_path / "a.ts")) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    (tmp_path / "v.ts").write_bytes(data[positions[4] :])
    told = r"8 of 56 pictures can't be decoded, since it doesn't start on a key frame; the rest"
    with pytest.warns(UserWarning, match=told) as caught:
        flashes, heard = moments(tmp_path / "v.ts")
    assert len(caught) == 1
    np.testing.assert_allclose(VideoReader(tmp_path / "v.ts").times, decoded_times(tmp_path / "v.ts"))
    assert len(flashes) == 2
    np.testing.assert_allclose(heard, flashes, atol=0.02)


@pytest.fixture
def clips() -> list[bytes]:
    """Two real MPEG program streams of 75 pictures and 3 seconds."""
    if not REAL.is_dir():
        pytest.skip("the real clips are not beside the project")
    return [path.read_bytes() for path in sorted(REAL.glob("*.mpg"))[:2]]


@pytest.mark.filterwarnings("ignore:.*can't be decoded:UserWarning")
@pytest.mark.parametrize("packs", [3, 20, 61, 100])
def test_real_clips_may_be_cut_at_the_front(tmp_path: Path, clips: list[bytes], packs: int):
    source = tmp_path / "v.mpg"
    source.write_bytes(clips[0][2048 * packs :])
    track, reader = cache_sound(source, tmp_path / "c.safetensors"), VideoReader(source)
    np.testing.assert_allclose(reader.times, decoded_times(source))
    np.testing.assert_array_equal(reader.times, track.picture_times)
    assert len(reader.read(range(reader.num_frames))) == reader.num_frames < 75


def test_real_clips_may_be_joined(tmp_path: Path, clips: list[bytes]):
    for name, data in (("a", clips[0]), ("b", clips[1]), ("v", clips[0] + clips[1])):
        (tmp_path / f"{name}.mpg").write_bytes(data)
    with pytest.warns(UserWarning, match="jumps back once"):
        track = cache_sound(tmp_path / "v.mpg", tmp_path / "c.safetensors")
    np.testing.assert_allclose(track.picture_times, np.arange(150) / 25, atol=1e-3)
    assert track.covers(track.picture_times).mean() > 0.97
    pictures = VideoReader(tmp_path / "v.mpg").read([0, 74, 75, 149])
    for picture, clip, frame in zip(pictures, "aabb", (0, 74, 0, 74), strict=True):
        np.testing.assert_array_equal(picture, VideoReader(tmp_path / f"{clip}.mpg").read([frame])[0])


CUTS = (0.35, 0.6, 0.83, 0.97)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mpg", ".ts"])
def test_what_is_there_of_a_file_that_breaks_off_is_read(tmp_path: Path, suffix: str):
    data = write_flashes(tmp_path / f"a{suffix}", noise=True, options={"movflags": "faststart"})
    source = tmp_path / f"v{suffix}"
    for cut in CUTS:
        source.write_bytes(data[: round(len(data) * cut)])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            track = cache_sound(source, tmp_path / "v.safetensors")
            reader = VideoReader(source)
            pictures = reader.read(range(reader.num_frames))
        np.testing.assert_array_equal(reader.times, track.picture_times)
        assert 0.4 * cut * 60 < len(pictures) <= 60
        # MPEG streams and Matroska don't say how long they were.
        is_told = suffix in {".mp4", ".avi"} and len(pictures) < 60
        assert len(caught) == is_told, [str(w.message) for w in caught]
        assert all("is damaged" in str(w.message) for w in caught)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pictures_after_damaged_ones_stay_in_place(tmp_path: Path, suffix: str):
    """Five packets of 60 are garbage; no picture after them moves."""
    source = tmp_path / f"v{suffix}"
    write_media(source, 60)
    whole = VideoReader(source).read(range(60)).astype(int)
    with av.open(str(source)) as container:
        packets = [(packet.pos, bytes(packet)) for packet in container.demux(video=0) if packet.size]
    data = bytearray(source.read_bytes())
    for position, payload in packets[30:35]:
        place = data.index(payload[:60], position)
        data[place : place + min(len(payload), 60)] = b"\xff" * min(len(payload), 60)
    source.write_bytes(data)
    reader = VideoReader(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pictures = reader.read(range(reader.num_frames)).astype(int)
    later = np.searchsorted(reader.times, reader.times[-1] - 10.5 / 25)
    np.testing.assert_allclose(pictures[later:], whole[-len(pictures[later:]) :], atol=6)


def test_an_edit_list_leaves_out_pictures_everywhere(tmp_path: Path):
    """The first three of 60 pictures are before the edit's start."""
    source = tmp_path / "v.mp4"
    write_media(source, 60)
    data = bytearray(source.read_bytes())
    entry = data.index(b"elst") + 12
    duration, begin = np.frombuffer(data, ">i4", 2, entry)
    with av.open(str(source)) as container:
        step = int(0.12 / container.streams.video[0].time_base)
    edited = np.array([duration - 120, begin + step], ">i4")
    data[entry : entry + 8] = edited.tobytes()
    source.write_bytes(data)
    track, reader = cache_sound(source, tmp_path / "c.safetensors"), VideoReader(source)
    assert reader.num_frames == len(track.picture_times) == len(decoded_times(source)) == 57
    np.testing.assert_allclose(reader.read(range(57)).mean(axis=(1, 2, 3)), 3 * np.arange(3, 60), atol=4)


def test_pictures_without_timestamps_follow_at_the_files_rate(tmp_path: Path):
    """A bare stream of H.264 has no clock."""
    write_flashes(tmp_path / "a.ts")
    with av.open(str(tmp_path / "a.ts")) as container:
        (tmp_path / "v.h264").write_bytes(b"".join(bytes(packet) for packet in container.demux(video=0)))
    reader = VideoReader(tmp_path / "v.h264")
    brightness = reader.read(range(reader.num_frames)).mean(axis=(1, 2, 3))
    assert np.flatnonzero(brightness > 128).tolist() == list(FLASHES)
    np.testing.assert_allclose(np.diff(reader.times), 0.04)
