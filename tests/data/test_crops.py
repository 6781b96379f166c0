import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from aff_wild2_files import Corpus, shade

from abaw.data import AffWild2DataModule
from abaw.data.crops import CropFiles, choose_crops, list_crops
from abaw.data.single import open_video
from abaw.data.windows import Recording, WindowReader
from abaw.errors import InputError


def folder_of(tmp_path: Path, *names: str) -> Path:
    """A folder of crops, each as bright as the number that its name tells."""
    folder = tmp_path / "v"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        number, ending = os.path.splitext(name)
        picture = np.full((16, 16, 3), shade(int(number)), np.uint8)
        (folder / name).write_bytes(cv2.imencode(ending.lower(), picture)[1].tobytes())
    return folder


def brightness(files: CropFiles, num_frames: int) -> list[int | None]:
    """What a window of the first frames shows, by frame."""
    recording = Recording(
        video_id="v",
        target=np.zeros(num_frames, np.int64),
        time=np.arange(num_frames) / 25,
        crops=files.of(num_frames),
        sound=None,
        broken=torch.zeros(num_frames, dtype=torch.bool),
    )
    window = WindowReader(160, 16, 0.0).read(recording, np.arange(num_frames))
    means = window["video"].float().mean((1, 2, 3)).round().int().tolist()
    return [mean if there else None for mean, there in zip(means, window["video_mask"], strict=True)]


@pytest.mark.parametrize(
    "names",
    [
        ("00001.jpg", "00002.jpg", "00004.jpg", "00012.jpg"),
        ("0001.jpg", "0002.jpg", "0004.jpg", "0012.jpg"),
        ("000001.JPG", "000002.JPG", "000004.JPG", "000012.JPG"),
        ("1.jpeg", "2.jpeg", "4.jpeg", "12.jpeg"),
        ("00001.png", "00002.PNG", "00004.Png", "00012.png"),
        ("00001.jpg", "00002.png", "4.JPEG", "0012.Jpg"),
    ],
)
def test_a_frame_has_the_crop_of_its_number_however_that_is_written(tmp_path: Path, names: tuple[str, ...]):
    files = list_crops(folder_of(tmp_path, *names))
    assert len(files.pattern) == 12
    shades = {number: shade(number) for number in (1, 2, 4, 12)}
    found = brightness(files, 13)
    for frame in range(13):
        expected = shades.get(frame + 1)
        assert found[frame] == (None if expected is None else pytest.approx(expected, abs=2)), frame
    assert files.others == ()


def test_a_crop_beyond_the_frames_is_left_out(tmp_path: Path):
    files = list_crops(folder_of(tmp_path, "00001.jpg", "00009.jpg"))
    assert files.of(4).present.tolist() == [True, False, False, False]
    assert list_crops(folder_of(tmp_path / "v")).pattern.shape == (0,)


@pytest.mark.parametrize("zero", ["00000.jpg", "0.png", "0000.JPEG"])
def test_crops_that_count_from_0_are_refused(tmp_path: Path, zero: str):
    folder = folder_of(tmp_path, zero, "00001.jpg")
    with pytest.raises(InputError, match=rf"{folder}: its crops count from 0 \({zero}\).*neighbour's face"):
        list_crops(folder)


@pytest.mark.parametrize(
    "names", [("1.jpg", "00001.jpg"), ("00001.jpg", "00001.png"), ("00001.JPG", "00001.jpg")]
)
def test_two_crops_of_one_frame_are_refused(tmp_path: Path, names: tuple[str, str]):
    folder = folder_of(tmp_path, *names)
    first, second = sorted(names)
    with pytest.raises(InputError, match=f"{folder}: {first} and {second} are crops of one frame; remove"):
        list_crops(folder)


def test_what_is_no_crop_is_counted_and_what_systems_leave_is_not(tmp_path: Path):
    folder = folder_of(tmp_path, "00002.jpg")
    for name in (".DS_Store", "._00001.jpg", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"?")
    for name in (
        "face.jpg",
        "00003.txt",
        "frame_00004.jpg",
        "²²²²².jpg",
        "12345678.jpg",
        "+1.jpg",
        "00001.jpg~",
    ):
        (folder / name).write_bytes(b"?")
    (folder / "deeper").mkdir()
    files = list_crops(folder)
    assert files.present.tolist() == [False, True]
    assert len(files.others) == 8


def test_a_folder_that_holds_a_folder_alone_stands_for_it(tmp_path: Path):
    inner = folder_of(tmp_path / "v", "00001.jpg")
    (tmp_path / "v" / ".DS_Store").touch()
    assert list_crops(tmp_path / "v").path(0) == f"{inner}/00001.jpg"


def test_a_folder_that_is_gone(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone: can't be read.*No such file"):
        list_crops(tmp_path / "gone")


def test_many_crops_are_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # As long as a video of 55 minutes: its names alone would be some 7 MB.
    monkeypatch.setattr(os, "listdir", lambda _: [f"{number:05d}.jpg" for number in range(1, 100_001)])
    files = list_crops(tmp_path)
    assert len(pickle.dumps(files)) < 101_000
    assert files.path(99_999) == f"{tmp_path}/100000.jpg"
    assert files.path(98) == f"{tmp_path}/00099.jpg"


def test_of_two_folders_of_one_video_the_filled_one_is_taken(tmp_path: Path):
    filled, empty = folder_of(tmp_path / "a", "1.jpg"), tmp_path / "b/v"
    empty.mkdir(parents=True)
    (empty / ".DS_Store").touch()
    assert choose_crops([filled, empty]) == choose_crops([empty, filled]) == filled
    (tmp_path / "link").symlink_to(filled)
    assert choose_crops([tmp_path / "link", filled]) in (tmp_path / "link", filled)
    folder_of(tmp_path / "b", "2.jpg")
    with pytest.raises(InputError, match=r"a/v and .*b/v both hold crops of v; remove one"):
        choose_crops([filled, empty])


def test_a_corpus_with_two_sets_of_crops_of_a_video_is_refused(small_corpus: Corpus):
    small_corpus.add_crops("a", range(3), "cropped_aligned_new_50_vids")
    with pytest.raises(InputError, match=r"cropped_aligned/a and .*cropped_aligned_new_50_vids/a both hold"):
        AffWild2DataModule(small_corpus.root).prepare_data()
    assert not (small_corpus.root / ".abaw_cache").exists(), "told before anything is decoded"


def rename_all(root: Path, rename) -> None:
    for path in sorted(root.glob("cropped_aligned*/*/*.jpg")):
        path.rename(path.with_name(rename(path)))


def test_a_corpus_counted_from_0_is_refused_before_anything_is_decoded(small_corpus: Corpus):
    rename_all(small_corpus.root, lambda path: f"{int(path.stem) - 1:05d}.jpg")
    with pytest.raises(InputError, match=r"cropped_aligned/a: its crops count from 0"):
        AffWild2DataModule(small_corpus.root).prepare_data()
    assert not (small_corpus.root / ".abaw_cache").exists()
    raw = small_corpus.root / "batch1/a.mp4"
    with pytest.raises(InputError, match=r"cropped_aligned/a: its crops count from 0"):
        open_video(raw, small_corpus.root / "cropped_aligned/a", small_corpus.root / "cache")


def test_a_corpus_of_which_no_crop_can_be_told_is_refused(small_corpus: Corpus):
    rename_all(small_corpus.root, lambda path: f"frame{path.stem}.jpg")
    with (
        pytest.warns(UserWarning, match=r"185 files in 5 crops folders are no crop called 00001.jpg"),
        pytest.raises(InputError, match=r"a: holds no crop called 00001.jpg .*nor does any other of 5"),
    ):
        AffWild2DataModule(small_corpus.root).prepare_data()


def test_a_corpus_of_which_no_crop_can_be_read_is_refused(small_corpus: Corpus):
    for path in small_corpus.root.glob("cropped_aligned*/*/*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"a: holds no crop .* that can be read, nor does any other of 5"):
        AffWild2DataModule(small_corpus.root).prepare_data()


def test_batches_are_the_same_whatever_the_crops_are_called(small_corpus: Corpus):
    def batches() -> list:
        data = AffWild2DataModule(small_corpus.root, window=8, num_workers=0)
        data.setup()
        return [batch["video"] for batch in data.val_dataloader()]

    before = batches()
    rename_all(small_corpus.root, lambda path: f"{int(path.stem):0{4 + int(path.stem) % 3}d}.JPEG")
    assert all(torch.equal(one, other) for one, other in zip(before, batches(), strict=True))
