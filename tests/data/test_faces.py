from pathlib import Path

import cv2
import numpy as np
import pytest
from aff_wild2_files import Corpus

from abaw.data.faces import FaceDetector, write_crops
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
