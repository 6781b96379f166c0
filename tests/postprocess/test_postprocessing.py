import copy

import pytest
import torch
import yaml

from abaw.errors import InputError
from abaw.postprocess import Decoder, HeldOut, Postprocessing, Smoothing

NAMES = ("calm", "glad")
FOLDS = (
    HeldOut(("a", "b_left"), Decoder(bias=(0.0, 9.0))),
    HeldOut(("c: d",), Decoder(Smoothing("gaussian", 2.5), transition_weight=3.0)),
)
FULL = Postprocessing(NAMES, Decoder(Smoothing("median", 5), (0.25, -0.25), 10.0), FOLDS, ((5, 1), (2, 7)))


@pytest.mark.parametrize("written", [FULL, Postprocessing(NAMES, Decoder())])
def test_what_was_written_is_read(tmp_path, written):
    written.write(tmp_path / "new" / "postprocess.yaml", comment="Two lines\nabout: it")
    path = tmp_path / "new" / "postprocess.yaml"
    assert Postprocessing.read(path) == written
    assert Postprocessing.read(path, list(NAMES)) == written
    assert path.read_text().startswith("# Two lines\n# about: it\n")
    assert [p.name for p in path.parent.iterdir()] == ["postprocess.yaml"]


def test_a_video_of_a_fold_is_decided_without_it_any_other_by_all():
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    assert FULL.decoder_of("a") == FOLDS[0].decoder
    assert FULL.decoder_of("c: d") == FOLDS[1].decoder
    assert FULL.decoder_of("b") == FULL.decoder_of(None) == FULL.decoder
    assert FULL.holds_out("b_left")
    assert not FULL.holds_out("b")
    assert FULL(scores, video_id="a")[1].tolist() == [1, 1]
    assert FULL(scores, video_id="z")[1].tolist() == FULL(scores)[1].tolist() == [0, 0]


def test_another_run_s_classes_are_refused(tmp_path):
    FULL.write(tmp_path / "p.yaml")
    with pytest.raises(InputError, match=r"p.yaml: was fitted for the classes calm,glad, not for glad,calm"):
        Postprocessing.read(tmp_path / "p.yaml", ("glad", "calm"))


def broken(change):
    def apply(tree):
        tree = copy.deepcopy(tree)
        change(tree)
        return tree

    return apply


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: [], "the file is not a mapping"),
        (lambda tree: None, "the file is not a mapping"),
        (broken(lambda tree: tree.pop("folds")), "look at folds"),
        (broken(lambda tree: tree.update(biases=[0])), "look at biases"),
        (broken(lambda tree: tree.update(class_names="calm")), "class_names must be a list"),
        (broken(lambda tree: tree.update(class_names=[1, 2])), "class_names must be a list of names"),
        (broken(lambda tree: tree.update(bias=[0.0])), "1 values for 2 classes"),
        (broken(lambda tree: tree.update(bias=["a", 0])), "a bias must be a number"),
        (broken(lambda tree: tree.update(bias=[0, float("nan")])), "bias must be a finite number"),
        (broken(lambda tree: tree.update(transition_weight=True)), "must be a number"),
        (broken(lambda tree: tree.update(transition_weight=-1)), "transition_weight must be at least 0"),
        (broken(lambda tree: tree.update(transitions=None)), "no transitions"),
        (broken(lambda tree: tree.update(transitions=[[1, 2]])), "2 rows of 2 counts"),
        (broken(lambda tree: tree.update(transitions=[[1, -2], [1, 1]])), "transitions must be at least 0"),
        (broken(lambda tree: tree.update(transitions=[[1, 2.5], [1, 1]])), "whole numbers"),
        (broken(lambda tree: tree.update(smoothing={"kind": "mean", "width": 3})), "kind must be one of"),
        (broken(lambda tree: tree.update(smoothing={"kind": "box", "width": 4})), "odd number"),
        (broken(lambda tree: tree.update(smoothing=5)), "smoothing is not a mapping"),
        (broken(lambda tree: tree["folds"][0].pop("bias")), "fold 1 must have the keys"),
        (broken(lambda tree: tree["folds"][1].update(videos=["a"])), "in two folds"),
        (broken(lambda tree: tree["folds"][1].update(videos=[])), "videos of fold 2"),
    ],
)
def test_malformed_files_are_refused_in_words(tmp_path, change, words):
    path = tmp_path / "p.yaml"
    FULL.write(path)
    path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text()))))
    with pytest.raises(InputError, match=words) as caught:
        Postprocessing.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [", "is not YAML"),
        (b"\xff\xfe\xff", "is not a text file in UTF-8"),
        (b"class_names: [a, b]\nbias: null\nbias: [1, 0]\n", "lines 2 and 3: bias is given twice"),
        (b"!!python/name:os.system", "is not YAML"),
    ],
)
def test_what_is_no_yaml_is_refused(tmp_path, content, words):
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(InputError, match=words):
        Postprocessing.read(tmp_path / "p.yaml")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Postprocessing.read(tmp_path / "none.yaml")
