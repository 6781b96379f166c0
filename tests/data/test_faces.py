from pathlib import Path

import cv2
import numpy as np
import pytest
from aff_wild2_files import Corpus

from abaw.data.faces import FaceDetector, FaceFollower, write_crops
from abaw.data.video import VideoReader
from abaw.errors import InputError


def test_crops_are_named_by_the_picture(small_corpus: Corpus, tmp_path: Path):
    small_corpus.add_raw("batch1/own.mp4", num_frames=7)
    video = small_corpus.root / "batch1" / "own.mp4"
    calls = iter(range(7))
    folder = tmp_path / "some" / "crops"
    found = write_crops(video, folder, lambda picture: picture[:8, :8] if next(calls) % 3 else None)
    assert found.tolist() == [False, True, True, False, True, True, False]
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:05d}.jpg" for number in (2, 3, 5, 6)]
    colours = cv2.cvtColor(cv2.imread(str(folder / "00002.jpg")), cv2.COLOR_BGR2RGB).mean((0, 1))
    np.testing.assert_allclose(colours, VideoReader(video).read([1])[0][:8, :8].mean((0, 1)), atol=3)


def test_weights_that_cannot_be_read_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere\.onnx: no such file"):
        FaceDetector(tmp_path / "nowhere.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(InputError, match=r"broken\.onnx: can't be read"):
        FaceDetector(broken)


@pytest.mark.parametrize("scale", [1, 4])
def test_faces_come_upright_and_whole(real: Path, scale: int):
    detector = FaceDetector(real / "yunet_n_320_320.onnx", size=96)
    picture = VideoReader(real / "bbaf2n.mpg").read([20])[0]
    height, width = picture.shape[:2]
    upright = detector(cv2.resize(picture, None, fx=scale, fy=scale))
    assert upright is not None
    assert upright.shape == (96, 96, 3)
    # A head on its side gives the same crop.
    for angle in (-25, 25):
        tilted = cv2.warpAffine(
            picture, cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1), (width, height)
        )
        turned = detector(tilted)
        assert turned is not None
        mine, other = (
            cv2.GaussianBlur(crop, (0, 0), 4).astype(float)[20:-20, 20:-20] for crop in (upright, turned)
        )
        assert np.corrcoef(mine.ravel(), other.ravel())[0, 1] > 0.9
    assert detector(np.zeros_like(picture)) is None


class Scripted:
    """A detector that finds what it is told, (left, top, side) in each picture; a crop is the left edge."""

    def __init__(self, pictures: list[list[tuple[float, float, float]]]) -> None:
        self.pictures = iter(pictures)

    def find(self, picture: np.ndarray) -> np.ndarray:
        boxes = [[left, top, side, side, *([0.0] * 10)] for left, top, side in next(self.pictures)]
        return np.array(boxes, dtype=np.float32).reshape(-1, 14)

    def crop(self, picture: np.ndarray, face: np.ndarray) -> float:
        return float(face[0])


def follow(*pictures: list[tuple[float, float, float]]) -> tuple[list[float | None], FaceFollower]:
    follower = FaceFollower(Scripted(list(pictures)))
    picture = np.zeros((8, 8, 3), np.uint8)
    return [follower(picture) for _ in pictures], follower


def test_of_two_equal_faces_one_is_followed():
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(358):
        left, right = ((at, 50.0, float(100 + rng.integers(-5, 6))) for at in (10.0, 300.0))
        pictures.append([left, right] if rng.random() < 0.5 else [right, left])
    crops, follower = follow(*pictures)
    assert len(set(crops)) == 1, "the largest one changes from picture to picture"
    assert (follower.num_pictures, follower.num_rivals, follower.num_switches) == (358, 358, 0)
    assert "358 of 358 pictures show several faces of similar size" in follower.describe()


def test_who_moves_or_grows_is_the_same_person_and_a_small_face_no_rival():
    crops, follower = follow(*([(10.0 * n, 0.0, 100.0 + n), (400.0, 0.0, 40.0)] for n in range(30)))
    assert crops == [10.0 * n for n in range(30)]
    assert follower.describe() is None


def test_a_cut_is_no_switch():
    crops, follower = follow(*[[(0.0, 0.0, 100.0)]] * 3, *[[(300.0, 0.0, 100.0)]] * 3)
    assert crops == [0.0] * 3 + [300.0] * 3
    assert follower.describe() is None


def test_a_much_larger_face_takes_over_and_is_counted():
    both = [(0.0, 0.0, 100.0), (300.0, 0.0, 90.0)]
    crops, follower = follow(both, [(0.0, 0.0, 100.0), (300.0, 0.0, 150.0)], both)
    assert crops == [0.0, 300.0, 300.0]
    assert follower.num_switches == 1
    assert "changes of the person: 1" in follower.describe()


def test_another_person_does_not_stand_in_for_who_is_missed_for_a_moment():
    one, other = (0.0, 0.0, 100.0), (300.0, 0.0, 100.0)
    crops, follower = follow([one, other], [other], [], [other], [one, other])
    assert crops == [0.0, None, None, None, 0.0]
    assert follower.num_switches == 0
    crops, follower = follow([one, other], *[[other]] * 20)
    assert crops == [0.0] + [None] * 15 + [300.0] * 5, "who is gone for good is not waited for"
    assert follower.num_switches == 1


def test_loading_the_weights_prints_nothing(real: Path, capfd: pytest.CaptureFixture[str]):
    level = cv2.utils.logging.getLogLevel()
    FaceDetector(real / "yunet_n_320_320.onnx")
    assert capfd.readouterr() == ("", "")
    assert cv2.utils.logging.getLogLevel() == level


def test_of_two_real_faces_one_is_followed(real: Path):
    detector = FaceDetector(real / "yunet_n_320_320.onnx")
    reader = VideoReader(real / "bbaf2n.mpg")
    follower, largest = FaceFollower(detector), []
    for picture in reader.read(range(0, 75, 3)):
        twice = np.concatenate([picture, picture[:, ::-1]], axis=1)
        assert follower(twice) is not None
        faces = detector.find(twice)
        assert len(faces) == 2
        largest.append(bool(faces[(faces[:, 2] * faces[:, 3]).argmax(), 0] > picture.shape[1]))
    assert len(set(largest)) == 2, "the largest face is not always the same person's"
    assert (follower.num_rivals, follower.num_switches) == (25, 0)


def test_each_picture_is_told(small_corpus: Corpus, tmp_path: Path):
    small_corpus.add_raw("batch1/own.mp4", num_frames=3)
    told: list[tuple[int, int]] = []
    write_crops(
        small_corpus.root / "batch1/own.mp4", tmp_path / "c", lambda _: None, lambda *n: told.append(n)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
