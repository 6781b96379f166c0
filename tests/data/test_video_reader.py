from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from aff_wild2_files import write_media, write_song

from abaw.data.video import VideoReader
from abaw.errors import InputError

REAL = Path(__file__).parents[2].parent / "shared" / "real"


def write_numbered(path: Path, codec: str, options: dict[str, str], num_frames: int = 60) -> None:
    """Write a video whose pictures say their number in 6 bits, as bars."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.gop_size = 12
        for number in range(num_frames):
            picture = np.zeros((64, 96, 3), np.uint8)
            for bit in range(6):
                picture[:, bit * 16 : bit * 16 + 16] = 220 * (number >> bit & 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def number_of(picture: np.ndarray) -> int:
    return sum(int(picture[:, bit * 16 + 4 : bit * 16 + 12].mean() > 110) << bit for bit in range(6))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mp4", "mpeg4", {}),
        ("v.mp4", "mpeg4", {"bf": "2"}),
        ("v.avi", "mpeg4", {"bf": "2"}),
        ("v.mkv", "mpeg4", {"bf": "2"}),
        ("v.mpg", "mpeg1video", {"bf": "2"}),
    ],
)
def test_pictures_are_those_asked_for(tmp_path: Path, name: str, codec: str, options: dict[str, str]):
    write_numbered(tmp_path / name, codec, options)
    reader = VideoReader(tmp_path / name)
    assert reader.num_frames == 60
    for frames in (range(60), [59, 0, 7, 7], [40], [41, 45], [12], [3, 2, 1]):
        pictures = reader.read(frames)
        assert pictures.dtype == np.uint8
        assert pictures.shape == (len(frames), 64, 96, 3)
        assert [number_of(picture) for picture in pictures] == list(frames)
    for outside in (60, -1):
        with pytest.raises(IndexError, match=rf"frame {outside} of a video of 60"):
            reader.read([0, outside])


def test_colors_are_rgb(tmp_path: Path):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        red = np.full((48, 64, 3), (200, 30, 60), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode(None))
    np.testing.assert_allclose(VideoReader(tmp_path / "v.mp4").read([0])[0, 20, 20], (200, 30, 60), atol=8)


def test_bad_files_are_named(tmp_path: Path):
    write_media(tmp_path / "v.mp4")
    (tmp_path / "v.mp4").write_bytes((tmp_path / "v.mp4").read_bytes()[:1000])
    for name in ("v.mp4", "gone.mp4"):
        with pytest.raises(InputError, match=name) as error:
            VideoReader(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["v.m4a", "cover.mp3"])
def test_a_song_is_no_video_though_it_has_a_cover(tmp_path: Path, name: str):
    write_song(tmp_path / name, np.zeros(16_000), cover=name.startswith("cover"))
    with pytest.raises(InputError, match=rf"{name}: holds no picture, sound alone"):
        VideoReader(tmp_path / name)


def test_real_clips_are_read_from_their_first_picture_to_their_last():
    clips = sorted(REAL.glob("*.mpg"))
    if not clips:
        pytest.skip("the real clips are not beside the project")
    for clip in clips:
        reader = VideoReader(clip)
        assert reader.num_frames == 75
        capture = cv2.VideoCapture(str(clip))
        expected = [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB).astype(int) for _ in range(75)]
        for frames in ([74, 0, 31, 30], [1]):
            for picture, frame in zip(reader.read(frames), frames, strict=True):
                # OpenCV rounds the colours a little differently.
                assert np.abs(picture - expected[frame]).mean() < 1
