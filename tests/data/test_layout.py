import os
import unicodedata
from pathlib import Path

import pytest
from aff_wild2_files import HEADER, Corpus

from abaw.data import AffWild2DataModule
from abaw.data.layout import scan
from abaw.data.places import find_places
from abaw.errors import InputError


def touch(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def label(root: Path, video_id: str, split: str = "Train_Set", edition: str = "Recognition") -> None:
    touch(root / f"EXPR_{edition}_Challenge" / split / f"{video_id}.txt", f"{HEADER}\n0\n")
    touch(root / "cropped_aligned" / video_id / "00001.jpg")


def found(root: Path, **arguments) -> dict:
    return {video.video_id: video for video in scan(root, **arguments)}


@pytest.mark.parametrize("edition", ["Recognition", "Classification"])
def test_finds_labels_crops_and_raw_videos_by_name(tmp_path: Path, edition: str):
    label(tmp_path, "1-30-1280x720", edition=edition)
    label(tmp_path, "a video.v2", "Validation_Set", edition=edition)
    touch(tmp_path / f"EXPR_{edition}_Challenge/Train_Set/video9.txt", f"{HEADER}\n0\n")
    touch(tmp_path / "cropped_aligned_new_50_vids/video9/00001.jpg")
    touch(tmp_path / "batch1/video9.mp4")
    touch(tmp_path / "batch2/1-30-1280x720.AVI")
    touch(tmp_path / "new_vids/a video.v2.mp4")
    videos = found(tmp_path)
    assert {name: video.split for name, video in videos.items()} == {
        "1-30-1280x720": "train",
        "video9": "train",
        "a video.v2": "validation",
    }
    assert videos["1-30-1280x720"].raw == tmp_path / "batch2/1-30-1280x720.AVI"
    assert videos["a video.v2"].raw == tmp_path / "new_vids/a video.v2.mp4"
    assert videos["a video.v2"].crops == tmp_path / "cropped_aligned/a video.v2"
    assert videos["video9"].raw == tmp_path / "batch1/video9.mp4"
    assert videos["video9"].crops == tmp_path / "cropped_aligned_new_50_vids/video9"


def test_persons_share_a_raw_video_unless_one_has_the_whole_name(tmp_path: Path):
    for name in ("v", "v_left", "v_right", "w_left", "x_left_right", "gone_left"):
        label(tmp_path, name)
    for name in ("v", "w", "w_left", "x_left"):
        touch(tmp_path / f"batch1/{name}.mp4")
    videos = found(tmp_path)
    assert {name: video.raw_id for name, video in videos.items()} == {
        "v": "v",
        "v_left": "v",
        "v_right": "v",
        "w_left": "w_left",
        "x_left_right": "x_left",
        "gone_left": "gone",
    }
    assert videos["v_left"].raw == tmp_path / "batch1/v.mp4"
    assert videos["v_left"].crops == tmp_path / "cropped_aligned/v_left"
    assert videos["w_left"].raw == tmp_path / "batch1/w_left.mp4"
    assert videos["gone_left"].raw is None


def test_stray_files_are_skipped(tmp_path: Path):
    label(tmp_path, "v")
    touch(tmp_path / "batch1/v.mp4")
    for stray in (
        "EXPR_Recognition_Challenge/Train_Set/.DS_Store",
        "EXPR_Recognition_Challenge/Train_Set/._v.txt",
        "EXPR_Recognition_Challenge/Train_Set/notes.md",
        "cropped_aligned/.DS_Store",
        "cropped_aligned/list.txt",
        "batch1/.DS_Store",
        "batch1/._v.mp4",
        "batch2/v.txt",
        "batch2/Thumbs.db",
    ):
        touch(tmp_path / stray)
    videos = found(tmp_path)
    assert list(videos) == ["v"]
    assert videos["v"].raw == tmp_path / "batch1/v.mp4"


def test_test_set_is_the_list_and_the_template(tmp_path: Path):
    label(tmp_path, "v")
    touch(tmp_path / "Expression_Recognition_Challenge_test_set_release.txt", "t1\r\nt2_left\n\n")
    touch(tmp_path / "VA_Estimation_Challenge_test_set_release.txt", "other\n")
    rows = ["t1/00001.jpg,", "t1/00012.jpg,", "t1/00003.jpg,0", "t3/00002.jpg"]
    template = "\n".join([f"image_location,{HEADER}", *rows]) + "\n"
    touch(
        tmp_path / "EXPR_Recognition_Challenge/Expression_Recognition_Challenge_test_set_sample.txt", template
    )
    touch(tmp_path / "batch1/t2.mp4")
    videos = found(tmp_path)
    assert {name: video.num_frames for name, video in videos.items() if video.split == "test"} == {
        "t1": 12,
        "t2_left": None,
        "t3": 2,
    }
    assert videos["t2_left"].raw == tmp_path / "batch1/t2.mp4"
    assert videos["t1"].annotation is None
    assert find_places(tmp_path).template() is not None
    elsewhere = touch(tmp_path / "mine.txt", "image_location\nt1/00005.jpg,\n")
    assert found(tmp_path, template=elsewhere)["t1"].num_frames == 5


def test_missing_root(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        scan(tmp_path / "nowhere")


def test_no_annotation_folder(tmp_path: Path):
    with pytest.raises(InputError, match=r"none of EXPR_Recognition_Challenge/, EXPR_Class"):
        scan(tmp_path)


def test_a_test_set_alone_needs_no_annotations(tmp_path: Path):
    template = touch(
        tmp_path / "Expression_Challenge_test_set_sample.txt", f"image_location,{HEADER}\nt/00002.jpg,0\n"
    )
    with pytest.raises(InputError, match=r"no test video has a crops folder \(first: t\)"):
        scan(tmp_path)
    touch(tmp_path / "cropped_aligned/t/00001.jpg")
    assert [(video.video_id, video.split, video.num_frames) for video in scan(tmp_path)] == [("t", "test", 2)]
    data = AffWild2DataModule(tmp_path, allow_missing_audio=True)
    assert data.class_names == tuple(HEADER.split(","))
    assert data.template_path == template


def test_two_annotation_folders(tmp_path: Path):
    label(tmp_path, "v")
    label(tmp_path, "v", edition="Classification")
    with pytest.raises(InputError, match=r"EXPR_C.* and .*EXPR_R.* both fit; keep one.*set annotations"):
        scan(tmp_path)


def test_no_label_file(tmp_path: Path):
    (tmp_path / "EXPR_Recognition_Challenge/Train_Set").mkdir(parents=True)
    with pytest.raises(InputError, match="no label file"):
        scan(tmp_path)


def test_no_crops_at_all(tmp_path: Path):
    touch(tmp_path / "EXPR_Recognition_Challenge/Train_Set/v.txt", f"{HEADER}\n0\n")
    touch(tmp_path / "cropped_aligned/other/00001.jpg")
    with pytest.raises(InputError, match=r"no annotated video has a crops folder \(first: v\)"):
        scan(tmp_path)


def test_video_in_two_splits(tmp_path: Path):
    label(tmp_path, "v")
    label(tmp_path, "v", "Validation_Set")
    with pytest.raises(InputError, match="v is in the train and the validation set"):
        scan(tmp_path)


def test_raw_videos_of_one_name(tmp_path: Path):
    label(tmp_path, "v")
    touch(tmp_path / "batch1/v.mp4")
    touch(tmp_path / "batch2/v.avi")
    with pytest.raises(InputError, match="same name"):
        scan(tmp_path)


@pytest.mark.parametrize("row", ["nonsense", "v/face.jpg,", "/00001.jpg"])
def test_malformed_template(tmp_path: Path, row: str):
    label(tmp_path, "v")
    template = touch(tmp_path / "t.txt", f"image_location\nt/00001.jpg,\n{row}\n")
    with pytest.raises(InputError, match=r"t\.txt, line 3"):
        scan(tmp_path, template=template)


def test_folders_are_no_label_files(tmp_path: Path):
    label(tmp_path, "v")
    (tmp_path / "EXPR_Recognition_Challenge/Train_Set/x.txt").mkdir()
    (tmp_path / "Expr_test_set_release.txt").mkdir()
    assert list(found(tmp_path)) == ["v"]


def test_test_lists_in_another_encoding(tmp_path: Path):
    label(tmp_path, "v")
    template = tmp_path / "t.txt"
    template.write_bytes("image_location\nt/00004.jpg,é\n".encode("latin-1"))
    assert found(tmp_path, template=template)["t"].num_frames == 4
    template.write_bytes("image_location\nvidéo\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"t\.txt, line 2"):
        scan(tmp_path, template=template)


def test_template_that_is_not_there(tmp_path: Path):
    label(tmp_path, "v")
    with pytest.raises(InputError, match=r"gone\.txt: no such template"):
        scan(tmp_path, template=tmp_path / "gone.txt")


def test_corpus_of_the_fixture_is_found(small_corpus: Corpus):
    assert len(scan(small_corpus.root)) == 5


def named(name: str, form: str) -> str:
    return unicodedata.normalize(form, name)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_one_however_their_letters_are_composed(tmp_path: Path, form: str):
    other = "NFD" if form == "NFC" else "NFC"
    labels = tmp_path / "EXPR_Recognition_Challenge/Train_Set"
    touch(labels / named("Überraschung é_left.txt", form), f"{HEADER}\n0\n")
    crops = touch(tmp_path / "cropped_aligned" / named("Überraschung é_left", other) / "00001.jpg").parent
    raw = touch(tmp_path / "batch1" / named("Überraschung é.mp4", other))
    touch(tmp_path / "Expr_test_set_release.txt", named("tést\n", form))
    rows = f"image_location,{HEADER}\n{named('tést', other)}/00003.jpg,0\n"
    touch(tmp_path / "Expr_test_set_sample.txt", rows)
    tested = touch(tmp_path / "batch2" / named("tést.mp4", form))
    videos = found(tmp_path)
    person, tést = named("Überraschung é_left", "NFC"), named("tést", "NFC")
    assert list(videos) == [person, tést]
    assert (videos[person].crops, videos[person].raw) == (crops, raw)
    assert (videos[tést].raw, videos[tést].num_frames) == (tested, 3)
    touch(labels / named("Überraschung é_left.txt", other), f"{HEADER}\n0\n")
    with pytest.raises(
        InputError, match=r"is in the train and the train set \(.*left\.txt and .*left\.txt\)"
    ):
        scan(tmp_path)


def test_names_that_are_no_utf8_are_refused_in_one_line(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9")
    label(tmp_path, "v")
    (tmp_path / "Expr_test_set_release.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "batch1").mkdir()
    (tmp_path / f"batch1/{name}.mp4").touch()
    with pytest.raises(InputError, match=r"release\.txt: 'caf\\udce9' is no video's name, not being UTF-8"):
        scan(tmp_path)
    data = AffWild2DataModule(tmp_path, allow_missing_audio=True)
    assert data.class_counts.tolist()[0] == 1  # who predicts alone needs the list
    label(tmp_path, name)
    with pytest.raises(InputError) as error:
        scan(tmp_path)
    assert str(error.value).startswith(
        f"{tmp_path}/EXPR_Recognition_Challenge/Train_Set/caf\\udce9.txt: 'caf"
    )
    str(error.value).encode()  # can be printed


@pytest.mark.parametrize("name", ["../evil", "deep/evil", "..", "._t", "Thumbs.db"])
def test_a_name_that_leads_out_of_a_folder_is_refused(tmp_path: Path, name: str):
    label(tmp_path, "a")
    touch(tmp_path / "Expr_test_set_sample.txt", f"image_location,{HEADER}\n{name}/00001.jpg,0\n")
    with pytest.raises(InputError, match=r"sample\.txt: '.*' is no video's name"):
        scan(tmp_path)
