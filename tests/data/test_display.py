"""Pictures as they are shown: the reference is what was drawn."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from abaw.data.video import VideoReader

# Width and height of what is stored.
WIDTH, HEIGHT = 96, 64
CORNERS = {"top left": (200, 40, 40), "top right": (40, 190, 40)}
CORNERS |= {"bottom left": (40, 60, 210), "bottom right": (220, 210, 60)}


def drawn(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture whose corners differ."""
    picture = np.empty((height, width, 3), np.uint8)
    for where, colour in CORNERS.items():
        rows = slice(0, height // 2) if "top" in where else slice(height // 2, None)
        columns = slice(0, width // 2) if "left" in where else slice(width // 2, None)
        picture[rows, columns] = colour
    return picture


def write(
    path: Path, pictures: list[np.ndarray], codec: str = "libx264", pix_fmt: str = "yuv444p", **how
) -> None:
    """Write pictures of one size; ``how``: matrix, aspect, options, and how colours are made and flagged."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "4"} | how.get("options", {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if "aspect" in how:
            stream.codec_context.sample_aspect_ratio = how["aspect"]
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format=pix_fmt, **how.get("colours", {}))
            for name, value in how.get("flags", {}).items():
                setattr(frame, name, value)
                setattr(stream.codec_context, name, value)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if "matrix" in how:
        patch_matrix(path, how["matrix"])


def patch_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a, b, c, d into the track header of an MP4, as a phone does that was held in another way."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version, flags, times and so on, 40 bytes
    entries = np.frombuffer(data, ">i4", 9, place).copy()
    entries[[0, 1, 3, 4]] = np.array(matrix) * 65536
    data[place : place + 36] = entries.tobytes()
    path.write_bytes(data)


def shown(path: Path) -> np.ndarray:
    return VideoReader(path).read([1])[0].astype(int)


def corners(picture: np.ndarray) -> dict[str, str]:
    """Which drawn corner is in which corner of a picture."""
    height, width = picture.shape[:2]
    found = {}
    for where in CORNERS:
        row = height // 8 if "top" in where else -height // 8
        column = width // 8 if "left" in where else -width // 8
        seen = picture[row, column]
        found[where] = min(CORNERS, key=lambda name: np.abs(seen - CORNERS[name]).sum())
    return found


# The matrix (a, b, c, d) of x' = a x + c y, y' = b x + d y, and which drawn corner each shown corner then is.
TURNS = {
    "upright": ((1, 0, 0, 1), "top left, top right, bottom left, bottom right"),
    "clockwise": ((0, 1, -1, 0), "bottom left, top left, bottom right, top right"),
    "upside down": ((-1, 0, 0, -1), "bottom right, bottom left, top right, top left"),
    "counterclockwise": ((0, -1, 1, 0), "top right, bottom right, top left, bottom left"),
    "mirrored": ((-1, 0, 0, 1), "top right, top left, bottom right, bottom left"),
    "mirrored at the horizon": ((1, 0, 0, -1), "bottom left, bottom right, top left, top right"),
    "transposed": ((0, 1, 1, 0), "top left, bottom left, top right, bottom right"),
    "transposed and upside down": ((0, -1, -1, 0), "bottom right, top right, bottom left, top left"),
}


@pytest.mark.parametrize("turn", TURNS)
def test_pictures_are_turned_as_players_turn_them(tmp_path: Path, turn: str):
    matrix, expected = TURNS[turn]
    write(tmp_path / "v.mp4", [drawn()] * 3, matrix=matrix)
    picture = shown(tmp_path / "v.mp4")
    is_lying = matrix[0] == 0
    assert picture.shape == ((WIDTH, HEIGHT, 3) if is_lying else (HEIGHT, WIDTH, 3))
    assert ", ".join(corners(picture).values()) == expected


# EXIF 2.3, table "Orientation": what 1 to 8 are here.
PHOTO_TURNS = (
    *("upright", "mirrored", "upside down", "mirrored at the horizon"),
    *("transposed", "clockwise", "transposed and upside down", "counterclockwise"),
)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_exif_data_say(tmp_path: Path, orientation: int):
    _, coded = cv2.imencode(".jpg", drawn()[..., ::-1])
    # Little-endian TIFF with one entry: tag 0x0112, a short.
    entry = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + entry
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "v.jpg").write_bytes(coded[:2].tobytes() + segment + coded[2:].tobytes())
    picture = VideoReader(tmp_path / "v.jpg").read([0])[0].astype(int)
    matrix, expected = TURNS[PHOTO_TURNS[orientation - 1]]
    assert picture.shape == ((WIDTH, HEIGHT, 3) if matrix[0] == 0 else (HEIGHT, WIDTH, 3))
    assert ", ".join(corners(picture).values()) == expected


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [("16/15", (64, 102)), ("1/2", (128, 96)), ("2", (64, 192)), ("100", (64, 96)), ("1", (64, 96))],
)
def test_pixels_become_square_and_an_absurd_shape_is_not_believed(
    tmp_path: Path, aspect: str, shape: tuple[int, int]
):
    write(tmp_path / "v.mp4", [drawn()] * 3, aspect=Fraction(aspect))
    picture = shown(tmp_path / "v.mp4")
    assert picture.shape == (*shape, 3)
    np.testing.assert_allclose(picture[8:24, 8:40], drawn(*shape)[8:24, 8:40], atol=4)


def test_oblong_pixels_are_squared_before_the_picture_is_turned(tmp_path: Path):
    write(tmp_path / "v.mp4", [drawn()] * 3, aspect=Fraction(2), matrix=TURNS["clockwise"][0])
    assert shown(tmp_path / "v.mp4").shape == (192, 64, 3)


ITU709, BT2020 = 1, 9
FULL = 2
KINDS = [
    ("libx264", "yuv420p", {}, {}),
    ("libx264", "yuvj420p", {}, {}),
    ("libx264", "yuv420p", {"dst_color_range": FULL}, {"color_range": FULL}),
    ("libx264", "yuv420p", {"dst_colorspace": ITU709}, {"colorspace": ITU709}),
    ("libx264", "yuv420p10le", {"dst_colorspace": BT2020}, {"colorspace": BT2020}),
    (
        "libx264",
        "yuv420p",
        {"dst_colorspace": ITU709, "dst_color_range": FULL},
        {"colorspace": ITU709, "color_range": FULL},
    ),
    ("libx264", "yuv444p10le", {}, {}),
    ("ffv1", "yuva420p", {}, {}),
    ("ffv1", "bgra", {}, {}),
    ("ffv1", "gbrp10le", {}, {}),
    ("mjpeg", "yuvj420p", {}, {}),
]


@pytest.mark.parametrize(("codec", "pix_fmt", "colours", "flags"), KINDS, ids=str)
def test_colours_are_those_that_were_drawn(
    tmp_path: Path, codec: str, pix_fmt: str, colours: dict, flags: dict
):
    write(tmp_path / "v.mkv", [drawn()] * 3, codec, pix_fmt, colours=colours, flags=flags)
    picture = shown(tmp_path / "v.mkv")
    for rows in (slice(4, 28), slice(36, 60)):
        for columns in (slice(4, 44), slice(52, 92)):
            np.testing.assert_allclose(picture[rows, columns], drawn()[rows, columns], atol=5)


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le"])
def test_grey_is_grey(tmp_path: Path, pix_fmt: str):
    write(tmp_path / "v.mkv", [np.full((HEIGHT, WIDTH, 3), 133, np.uint8)] * 3, "ffv1", pix_fmt)
    np.testing.assert_allclose(shown(tmp_path / "v.mkv"), 133, atol=1)


INTERLACED = {"flags": "+ilme+ildct", "qscale": "2"}


def test_interlaced_pictures_have_no_combs_and_keep_their_number_and_time(tmp_path: Path):
    """A bar moves by 8 pixels a field: in a comb its edge is in two places, in odd and in even rows."""

    def bar(position: int) -> np.ndarray:
        picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        picture[:, position : position + 24] = 200
        return picture

    woven = []
    for number in range(5):
        picture = bar(16 * number)
        picture[1::2] = bar(16 * number + 8)[1::2]
        woven.append(picture)

    def comb(picture: np.ndarray) -> float:
        return float(np.abs(picture[1:-1:2].astype(float) - picture[2::2]).mean())

    path = tmp_path / "v.mpg"
    write(path, woven, "mpeg2video", "yuv420p", options=INTERLACED)
    reader = VideoReader(path)
    pictures = reader.read(range(5))
    assert reader.num_frames == 5
    np.testing.assert_allclose(np.diff(reader.times), 0.04, atol=1e-3)
    for number, picture in enumerate(pictures):
        assert comb(picture) < 0.3 * comb(woven[number])
        # It is the moment of one of its fields.
        fields = [bar(16 * number), bar(16 * number + 8)]
        assert min(np.abs(picture.astype(float) - field).mean() for field in fields) < 5
    assert np.array_equal(reader.read([3]), pictures[3:4])


def test_another_size_is_fitted_into_the_first_one(tmp_path: Path):
    """As in a call: first wide, then upright and smaller."""
    write(tmp_path / "a.ts", [drawn()] * 3, pix_fmt="yuv420p")
    write(tmp_path / "b.ts", [drawn(64, 32)] * 3, pix_fmt="yuv420p")
    (tmp_path / "v.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    pictures = VideoReader(tmp_path / "v.ts").read(range(6))
    assert pictures.shape == (6, HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(pictures[1][4:28, 4:44], drawn()[4:28, 4:44], atol=5)
    inner = pictures[4][:, 32:64]
    np.testing.assert_allclose(inner[4:28, 4:12], drawn(64, 32)[4:28, 4:12], atol=5)
    assert pictures[4][:, :30].max() < 3
    assert pictures[4][:, 66:].max() < 3
    # The second call for pictures starts from the first one's size, too.
    assert VideoReader(tmp_path / "v.ts").read([4]).shape == (1, HEIGHT, WIDTH, 3)
