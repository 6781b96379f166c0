import os
import shutil
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from aff_wild2_files import clicks, find_clicks, write_media, write_song

from abaw.data.audio import SAMPLE_RATE, cache_sound, open_sound
from abaw.errors import InputError

CLICKS = np.array([0.1, 0.52, 1.2, 1.9])


def whole(track) -> np.ndarray:
    return track.read(0, int(track.spans.max(initial=0)))


NTSC = Fraction(30_000, 1001)
STEREO = {"sound_rate": 44_100, "stereo": True}
MEDIA = [
    STEREO,
    {"sound_rate": 48_000, "sound_start": 0.5},
    {"sound_rate": 44_100, "sound_start": 0.4, "video_start": 0.4},
    {"sound_rate": 48_000, "video_start": 0.4},
    {"sound_rate": 48_000, "hole": (1.0, 0.7)},
]
CASES = [
    *((suffix, rate, media) for suffix in (".mp4", ".mkv") for rate in (25, NTSC, 15) for media in MEDIA),
    *((".mpg", rate, media) for rate in (25, NTSC) for media in MEDIA),
    # AVI has no timestamps: sound begins with the pictures.
    *((".avi", rate, media) for rate in (25, NTSC, 15) for media in (STEREO, {"sound_rate": 16_000})),
]


@pytest.mark.parametrize(("suffix", "rate", "media"), CASES, ids=str)
def test_sound_is_where_the_timestamps_put_it(tmp_path: Path, suffix: str, rate, media: dict):
    source = tmp_path / f"v{suffix}"
    write_media(source, num_frames=40, rate=rate, sound=clicks(2.0, CLICKS, media["sound_rate"]), **media)
    track = cache_sound(source, tmp_path / "v.safetensors")
    heard = track.start + find_clicks(whole(track)) / SAMPLE_RATE
    # The muxer of MPEG program streams begins later than it was told, with pictures and sound alike.
    clock = track.picture_times[0] - media.get("video_start", 0)
    hole_begin, hole_length = media.get("hole", (9.0, 0.0))
    expected = clock + CLICKS + media.get("sound_start", 0) + hole_length * (hole_begin <= CLICKS)
    # MP4 rounds a late start to a millisecond.
    np.testing.assert_allclose(heard, expected, atol=1e-3)
    assert len(track.picture_times) == 40
    np.testing.assert_allclose(np.diff(track.picture_times), float(1 / Fraction(rate)), atol=1.1e-3)
    assert len(track.spans) == (2 if "hole" in media else 1)
    if suffix == ".avi":
        assert track.spans.tolist() == [[0, 32_000]], "nothing is lost at the end"


def test_mono_is_the_mean_of_both_channels(tmp_path: Path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    write_media(tmp_path / "v.avi", sound=tone, stereo=True)
    with av.open(str(tmp_path / "v.avi")) as container:
        stereo = np.concatenate([f.to_ndarray().reshape(-1, 2) for f in container.decode(audio=0)])
    track = cache_sound(tmp_path / "v.avi", tmp_path / "c.safetensors")
    assert np.abs(whole(track) - stereo.mean(axis=1)).max() <= 1


def test_covers_knows_start_end_and_hole(tmp_path: Path):
    source = tmp_path / "v.mkv"
    write_media(
        source, num_frames=100, sound=clicks(2.0, CLICKS), sound_start=0.5, hole=(1.0, 0.7), sound_rate=16_000
    )
    track = cache_sound(source, tmp_path / "v.safetensors")
    moments = np.array([0.0, 0.47, 0.53, 1.45, 1.6, 2.1, 2.3, 3.1, 3.4])
    assert track.covers(moments).tolist() == [False, False, True, True, False, False, True, True, False]


def test_read_is_zero_outside_the_track(tmp_path: Path):
    write_media(tmp_path / "v.avi", sound=np.full(8000, 0.5), num_frames=10)
    track = cache_sound(tmp_path / "v.avi", tmp_path / "v.safetensors")
    everything = whole(track)
    assert len(everything) == 8000
    np.testing.assert_array_equal(track.read(100, 50), everything[100:150])
    clip = track.read(-30, 8100)
    assert clip.dtype == np.int16
    assert not clip[:30].any()
    assert not clip[8030:].any()
    np.testing.assert_array_equal(clip[30:8030], everything)
    assert not track.read(-500, 100).any()
    assert not track.read(9000, 100).any()
    assert track.stretches(-30, 8100) == [slice(30, 8030)]
    assert track.stretches(9000, 100) == []


def test_file_without_sound_has_pictures_all_the_same(tmp_path: Path):
    write_media(tmp_path / "v.mp4", num_frames=12, rate=24)
    track = cache_sound(tmp_path / "v.mp4", tmp_path / "v.safetensors")
    assert track.is_silent
    np.testing.assert_allclose(track.picture_times, np.arange(12) / 24, atol=1e-6)
    assert not track.covers(track.picture_times).any()
    assert not track.read(0, 100).any()
    assert track.stretches(0, 100) == []


@pytest.mark.parametrize("name", ["v.m4a", "v.mp3", "v.wav", "cover.mp3", "cover.flac"])
def test_a_voice_without_pictures_is_heard_where_it_will_do(tmp_path: Path, name: str):
    source, cache = tmp_path / name, tmp_path / "c.safetensors"
    write_song(source, clicks(2.0, CLICKS), cover=name.startswith("cover"))
    with pytest.raises(InputError, match=rf"{name}: holds no picture, sound alone"):
        cache_sound(source, cache)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    track = cache_sound(source, cache, voice_alone=True)
    assert len(track.picture_times) == 0
    # MP3's decoder begins where its encoder's delay ends.
    heard = track.start + find_clicks(whole(track)) / SAMPLE_RATE
    np.testing.assert_allclose(heard - heard[0], CLICKS - CLICKS[0], atol=1e-3)
    assert heard[0] == pytest.approx(CLICKS[0], abs=0.08)


def test_neither_picture_nor_sound_is_an_error_even_where_a_voice_will_do(tmp_path: Path):
    with wave.open(str(tmp_path / "v.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", None))
    with pytest.raises(InputError, match=r"v\.wav: holds neither a picture nor sound"):
        cache_sound(tmp_path / "v.wav", tmp_path / "c.safetensors", voice_alone=True)


def test_pictures_out_of_order_get_ascending_times(tmp_path: Path):
    source = tmp_path / "v.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(source)) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    track = cache_sound(source, tmp_path / "v.safetensors")
    np.testing.assert_allclose(track.picture_times, shown)


def test_cache_is_opened_again_and_left_alone(tmp_path: Path):
    source, cache = tmp_path / "v.mp4", tmp_path / "v.safetensors"
    write_media(source, sound=clicks(1.0, [0.5]), sound_start=0.25)
    assert open_sound(source, cache) is None
    made, again = cache_sound(source, cache), open_sound(source, cache)
    assert again is not None
    assert again.start == made.start
    np.testing.assert_array_equal(again.spans, made.spans)
    np.testing.assert_array_equal(again.picture_times, made.picture_times)
    np.testing.assert_array_equal(whole(again), whole(made))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.mp4", "v.safetensors", "v.wav"]


def test_cache_of_a_changed_source_is_stale(tmp_path: Path):
    source, cache = tmp_path / "v.mp4", tmp_path / "v.safetensors"
    write_media(source, sound=clicks(1.0, [0.5]))
    cache_sound(source, cache)
    os.utime(source, (1, 1))
    assert open_sound(source, cache) is None
    cache_sound(source, cache)
    assert open_sound(source, cache) is not None
    other = tmp_path / "w.mp4"
    shutil.copy2(source, other)
    assert open_sound(other, cache) is None


@pytest.mark.parametrize("keep", [0, 4, 100, -50])
def test_broken_cache_is_stale(tmp_path: Path, keep: int):
    source, cache = tmp_path / "v.mp4", tmp_path / "v.safetensors"
    write_media(source, sound=clicks(1.0, [0.5]))
    cache_sound(source, cache)
    for file in (cache, cache.with_suffix(".wav")):
        whole = file.read_bytes()
        file.write_bytes(whole[:keep])
        assert open_sound(source, cache) is None
        file.write_bytes(whole)
        assert open_sound(source, cache) is not None


def test_truncated_mp4_is_an_error_that_names_it(tmp_path: Path):
    source = tmp_path / "v.mp4"
    write_media(source, sound=clicks(1.0, [0.5]))
    source.write_bytes(source.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"v\.mp4: can't be read as a video") as error:
        cache_sound(source, tmp_path / "v.safetensors")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_file_that_is_no_video_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "v.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(InputError, match=r"v\.mp4"):
        cache_sound(tmp_path / "v.mp4", tmp_path / "v.safetensors")


def test_file_without_pictures_is_an_error_that_names_it(tmp_path: Path):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"v\.mp4"):
        cache_sound(tmp_path / "v.mp4", tmp_path / "v.safetensors")


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_file_that_breaks_off_gives_what_it_has_and_a_warning(tmp_path: Path, suffix: str):
    source = tmp_path / f"v{suffix}"
    write_media(
        source, num_frames=100, sound=clicks(4.0, CLICKS), options={"movflags": "faststart"}, noise=True
    )
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match=rf"v\{suffix}: is damaged.* of 100 pictures"):
        track = cache_sound(source, tmp_path / "v.safetensors")
    assert 20 < len(track.picture_times) < 80
    heard = track.start + find_clicks(whole(track)) / SAMPLE_RATE
    np.testing.assert_allclose(heard[:2], CLICKS[:2], atol=1e-3)


def test_sound_after_broken_packets_stays_in_place(tmp_path: Path):
    source = tmp_path / "v.mp4"
    write_media(source, num_frames=50, sound=clicks(2.0, CLICKS, 44_100), sound_rate=44_100)
    with av.open(str(source)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    data = bytearray(source.read_bytes())
    for position, size in packets[30:35]:  # 0.7 to 0.81 s
        data[position : position + size] = b"\xff" * size
    source.write_bytes(data)
    with pytest.warns(UserWarning, match=r"v\.mp4: is damaged: 5 packets of sound can't be decoded"):
        track = cache_sound(source, tmp_path / "v.safetensors")
    heard = track.start + find_clicks(whole(track)) / SAMPLE_RATE
    np.testing.assert_allclose(heard, CLICKS, atol=1e-3)
    assert track.covers(np.array([0.5, 0.76, 0.9])).tolist() == [True, False, True]


def test_whole_files_do_not_warn(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    for suffix in (".mp4", ".avi", ".mpg", ".mkv"):
        # In AVI, a first picture that is late is a picture shown for long: fewer packets than were declared.
        write_media(
            tmp_path / f"v{suffix}", sound=clicks(1.0, [0.5], 48_000), sound_rate=48_000, video_start=0.4
        )
        cache_sound(tmp_path / f"v{suffix}", tmp_path / "v.safetensors")
    assert not recwarn.list
