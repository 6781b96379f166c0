"""The whole way on real faces and voices: clips laid out as a test set, `abaw predict`, a submission."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors import safe_open
from small import QUICKSTART

from abaw.cli import main
from abaw.data.video import VideoReader

pytestmark = pytest.mark.slow

FRAMES = 75


def crop_face(detector: cv2.FaceDetectorYN, picture: np.ndarray) -> np.ndarray | None:
    """The most certain face, upright by its eyes, 112×112, BGR; None where there is none."""
    detector.setInputSize(picture.shape[1::-1])
    _, faces = detector.detect(picture)
    if faces is None:
        return None
    x, y, width, height, *landmarks = max(faces, key=lambda face: face[-1])[:14]
    right, left = np.array(landmarks[:2]), np.array(landmarks[2:4])
    angle = float(np.degrees(np.arctan2(*(left - right)[::-1])))
    matrix = cv2.getRotationMatrix2D((x + width / 2, y + height / 2), angle, 112 / max(width, height))
    matrix[:, 2] += 56 - np.array([x + width / 2, y + height / 2])
    return cv2.warpAffine(picture, matrix, (112, 112))


@pytest.fixture(scope="module")
def real_root(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real clips in Aff-Wild2's folders: raw videos, crops, test list, template; nothing annotated."""
    root = tmp_path_factory.mktemp("real") / "root"
    (root / "batch1").mkdir(parents=True)
    detector = cv2.FaceDetectorYN.create(str(real / "yunet_n_320_320.onnx"), "", (320, 320))
    names = sorted(path.stem for path in real.glob("*.mpg"))
    rows = ["image_location,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"]
    for name in names:
        shutil.copy(real / f"{name}.mpg", root / "batch1")
        crops = root / "cropped_aligned" / name
        crops.mkdir(parents=True)
        pictures = VideoReader(real / f"{name}.mpg").read(range(FRAMES))
        for number, picture in enumerate(pictures, start=1):
            face = crop_face(detector, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            if face is not None:
                cv2.imwrite(str(crops / f"{number:05d}.jpg"), face)
            rows.append(f"{name}/{number:05d}.jpg,0")
    (root / "Expression_Recognition_Challenge_test_set_release.txt").write_text("\n".join(names) + "\n")
    (root / "Expression_Recognition_Challenge_test_set_sample.txt").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's model, trained for an epoch: real input must pass, not be recognised."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    where = [f"--data.root={corpus}", f"--trainer.default_root_dir={folder}"]
    options = [
        "--trainer.max_epochs=1",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.enable_progress_bar=false",
        "--data.num_workers=0",
    ]
    assert main(["fit", f"--config={QUICKSTART}", *where, *options]) == 0
    return folder


def test_predict_writes_a_row_for_every_frame(run: Path, real_root: Path, tmp_path: Path) -> None:
    output = tmp_path / "predictions"
    where = [f"--data.root={real_root}", f"--predictions.output_dir={output}"]
    assert main(["predict", f"--run={run}", *where, "--trainer.enable_progress_bar=false"]) == 0
    rows = (output / "predictions.txt").read_text().splitlines()[1:]
    clips = sorted(path.stem for path in (real_root / "batch1").iterdir())
    assert len(clips) == 4
    for clip in clips:
        assert [row for row in rows if row.startswith(f"{clip}/")] == [
            f"{clip}/{number:05d}.jpg,{rows[clips.index(clip) * FRAMES + number - 1][-1]}"
            for number in range(1, FRAMES + 1)
        ]
        with safe_open(output / "scores" / f"{clip}.safetensors", "pt") as file:
            assert file.get_tensor("scores").shape == (FRAMES, 8)
            assert file.get_tensor("video_mask").float().mean() >= 0.95
            # The clips talk to their end: their tracks cover every frame.
            assert file.get_tensor("audio_mask").float().mean() >= 0.95
