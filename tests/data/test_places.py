import os
from pathlib import Path

import pytest
import torch
from aff_wild2_files import HEADER, Corpus, unpack

from abaw.data import AffWild2DataModule
from abaw.data.layout import scan
from abaw.data.places import find_places
from abaw.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*videos have:UserWarning")
ROWS = f"image_location,{HEADER}\nt/00001.jpg,0\nt/00009.jpg,0\n"


@pytest.fixture
def tested(small_corpus: Corpus) -> Corpus:
    """A corpus with a test video, its list and its template."""
    (small_corpus.root / "Expression_test_set_release.txt").write_text("t\n")
    (small_corpus.root / "Expression_test_set_sample.txt").write_text(ROWS)
    small_corpus.add_crops("t", range(9))
    small_corpus.add_raw("new_vids/t.mp4", num_frames=10)
    return small_corpus


def data(root: Path, **arguments) -> AffWild2DataModule:
    module = AffWild2DataModule(root, window=8, batch_size=4, num_workers=0, **arguments)
    module.setup()
    return module


def served(module: AffWild2DataModule) -> list[dict]:
    loaders = (module.train_dataloader(), module.val_dataloader(), module.predict_dataloader())
    return [batch for loader in loaders for batch in loader]


def same(batches: list[dict], others: list[dict]) -> bool:
    def equal(one, other) -> bool:
        return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other

    return len(batches) == len(others) and all(
        equal(value, other[key])
        for one, other in zip(batches, others, strict=True)
        for key, value in one.items()
    )


def names_of(path: Path) -> dict[str, tuple]:
    return {video.video_id: (video.split, video.num_frames) for video in scan(path)}


def test_archives_as_they_unpack_hold_the_corpus(tested: Corpus, tmp_path: Path):
    root = unpack(tested.root, tmp_path / "unpacked")
    module = data(root)
    assert module.class_names == tuple(HEADER.split(","))
    assert module.template_path == root / "prediction_files_format/CVPR_6th_ABAW_Expr_test_set_sample.txt"
    assert same(served(module), served(data(tested.root)))
    assert {video.raw_id for video in module.videos if video.video_id.startswith("b_")} == {"b"}
    wrapped = tmp_path / "disk/Aff-Wild2/data"
    wrapped.parent.mkdir(parents=True)
    root.rename(wrapped)
    assert names_of(tmp_path / "disk") == names_of(tested.root)


@pytest.mark.parametrize(
    ("annotations", "crops", "raw"),
    [
        ("5th_ABAW_Annotations/Annotations/EXPR_Classification_Challenge", "a/b/c/cropped_aligned", "batch1"),
        (
            "EXPR_Recognition_Challenge/EXPR_Recognition_Challenge",
            "x/CROPPED_ALIGNED/cropped_aligned",
            "y/batch1",
        ),
        ("EXPR_Recognition_Challenge", "cropped_aligned", "Batch1/batch1/batch1"),
    ],
)
def test_each_part_is_found_in_any_wrapping(tmp_path: Path, annotations: str, crops: str, raw: str):
    for path, text in {
        f"{annotations}/Train_Set/v.TXT": f"{HEADER}\n0\n",
        f"{crops}/v/00001.jpg": "",
        f"{raw}/v.mp4": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    (video,) = scan(tmp_path)
    assert video.annotation == tmp_path / annotations / "Train_Set/v.TXT"
    assert (video.crops, video.raw) == (tmp_path / crops / "v", tmp_path / raw / "v.mp4")


def test_two_that_fit_are_named_and_settled_by_an_argument(tested: Corpus, tmp_path: Path):
    expected = served(data(tested.root))
    root = tmp_path / "both"
    (root / "old").mkdir(parents=True)
    unpack(tested.root, root / "new")
    for part in (tested.annotations, "cropped_aligned", "batch1"):
        os.symlink(tested.root / part, root / "old" / part)
    settings: dict[str, object] = {}
    new = root / "new"
    for argument, value, named in (
        ("annotations", new / "6th ABAW Annotations", "old/EXPR_.* and .*6th ABAW.*/EXPR_"),
        (
            "crops",
            [new / "cropped_aligned", new / "cropped_aligned_new_50_vids"],
            "new/cropped.* and .*old/crop",
        ),
        ("videos", [str(new)], "new/batch1 and .*old/batch1"),
    ):
        with pytest.raises(InputError, match=f"{named}.* both fit; .*set {argument}"):
            data(root, **settings)
        settings[argument] = value
    module = data(root, **settings)
    assert same(served(module), expected)
    assert module.hparams["annotations"] == str(new / "6th ABAW Annotations")
    assert module.hparams["crops"] == [str(path) for path in settings["crops"]]
    assert module.hparams["videos"] == [str(new)]


def test_parts_on_other_disks_are_given(tested: Corpus, tmp_path: Path):
    expected = served(data(tested.root))
    for part, disk in {
        tested.annotations: "labels", "cropped_aligned": "ssd", "cropped_aligned_new_50_vids": "hdd/faces",
        "batch1": "tape1", "batch2": "tape2", "new_vids": "tape2/more",
    }.items():  # fmt: skip
        (tmp_path / disk).parent.mkdir(parents=True, exist_ok=True)
        (tested.root / part).rename(tmp_path / disk)
    with pytest.raises(InputError, match="no annotated video has a crops folder"):
        data(tested.root, annotations=tmp_path / "labels")
    module = data(
        tested.root,
        annotations=tmp_path / "labels",
        crops=[tmp_path / "ssd", tmp_path / "hdd/faces"],
        videos=[tmp_path / name for name in ("tape1", "tape2", "tape2/more")],
    )
    assert same(served(module), expected)


@pytest.mark.parametrize("argument", ["annotations", "crops", "videos"])
def test_a_folder_that_is_given_and_is_not_there(tested: Corpus, tmp_path: Path, argument: str):
    gone = tmp_path / "gone"
    with pytest.raises(InputError, match=rf"gone: no such folder; set {argument} anew"):
        data(tested.root, **{argument: gone if argument == "annotations" else [gone]})
    if argument == "annotations":
        gone.mkdir()
        with pytest.raises(InputError, match="gone: holds neither Train_Set nor Validation_Set"):
            data(tested.root, annotations=gone)


def test_training_needs_no_template_and_predicting_says_which_two_fit(tested: Corpus):
    (tested.root / "Expr_other_test_set_sample.txt").write_text(ROWS.replace("00009", "00008"))
    module = data(tested.root)
    assert list(module.train_dataloader())
    assert list(module.val_dataloader())
    with pytest.raises(InputError, match=r"Expr.* and .*Expr.*sample\.txt both fit; keep .*set template"):
        module.predict_dataloader()
    module.predict_all()
    with pytest.raises(InputError, match=r"both fit"):
        module.predict_dataloader()
    settled = data(tested.root, template=tested.root / "Expression_test_set_sample.txt")
    assert next(iter(settled.predict_dataloader()))["num_frames"][0] == 9


def test_a_damaged_template_hinders_those_alone_who_predict(tested: Corpus):
    (tested.root / "Expression_test_set_sample.txt").write_text("image_location\nnonsense\n")
    module = data(tested.root)
    assert list(module.val_dataloader())
    with pytest.raises(InputError, match=r"sample\.txt, line 2: 'nonsense' is no frame"):
        module.predict_dataloader()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a_test_set_sample.txt": "image_location,valence,arousal\n"}, None),
        ({"a_test_set_sample.txt": "image_location,AU1,AU2\n", "b_test_set_sample.txt": ROWS}, "b"),
        (
            {f"{name}_test_set_sample.txt": "image_location\n" for name in ("AU", "Expr", "VA")},
            "Expr",
        ),
        ({"VA_test_set_sample.txt": "image_location\n"}, None),
        (
            {
                "Compound_Expression_test_set_sample.txt": ROWS + "u/00001.jpg,\n",
                "Expression_test_set_sample.txt": ROWS,
            },
            "Expression",
        ),
        ({"CVPR_6th_ABAW_CE_test_set_sample.txt": ROWS}, None),
        ({"x_test_set_sample.txt": ROWS, "y_test_set_sample.txt": ROWS}, "x"),
        ({"my_test_set_sample.txt": ROWS, "EXPR_test_set_sample.txt": ROWS + "t/00010.jpg,\n"}, "EXPR"),
        ({"MTL_test_set_sample.txt": "image,valence,arousal,expression,aus\n"}, None),
    ],
)
def test_the_template_of_expressions_is_told_by_header_and_name(
    tmp_path: Path, files: dict, expected: str | None
):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = find_places(tmp_path).template()
    assert found == (None if expected is None else tmp_path / f"{expected}_test_set_sample.txt")


def test_no_folder_of_many_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(61):
        (tmp_path / f"faces/v{number}/batch1").mkdir(parents=True)
        (tmp_path / f"cropped_aligned/v{number}/batch1").mkdir(parents=True)
    (tmp_path / "few/deep").mkdir(parents=True)
    for number in range(2001):
        (tmp_path / f"few/deep/{number:05d}.jpg").touch()
    (tmp_path / "few/loop").symlink_to(tmp_path)
    for link in ("few/itself", "few/notes.txt"):
        (tmp_path / link).symlink_to(tmp_path / link)
    (tmp_path / "few/gone").symlink_to(tmp_path / "nowhere")
    read = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: read.append(Path(path).name) or scandir(path))
    places = find_places(tmp_path)
    assert places.crops == [tmp_path / "cropped_aligned"]
    assert places.videos == []
    assert {name for name in read if name.startswith("v")} == set()
    assert len(read) < 12
