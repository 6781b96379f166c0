import abc
import importlib

import pytest

from abaw.fusion import ConcatFusion, FusionHead
from abaw.given import Given
from abaw.parse_errors import class_names, explain


class OutsideHead(ConcatFusion):
    """A head that is not the library's own."""


class Hooked(FusionHead, abc.ABC):
    """A base class that cannot be meant."""


def test_names_are_the_librarys_own_usable_classes() -> None:
    assert class_names(FusionHead) == [
        "ConcatFusion",
        "CrossAttentionFusion",
        "DualBranchTransformer",
        "GatedFusion",
        "LateFusion",
    ]


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ("unrecognized arguments: --model.lrr 3", "there is no option --model.lrr"),
        ("unrecognized arguments: model.lr=3", "model.lr=3 belongs to no option; options begin with --"),
        (
            "Parser key \"model.lr\":\n  Expected a <class 'float'>. Got value: abc",
            "model.lr: expects float. Got value: abc",
        ),
        (
            "Does not validate against any of the Union subtypes\nSubtypes: [<class 'A'>]\nErrors:\n"
            "  - p is a probability; got 2.0\n  - Expected a <class 'NoneType'>\nGiven value: y",
            "p is a probability; got 2.0",
        ),
        (
            "Does not validate against any of the Union subtypes\nErrors:\n  - Expected a <class 'float'>. "
            "Got value: x\n  - Not a valid subclass of Tensor\n    Subclass types expect one of:\n    - a "
            "class path (str)\n    - a dict with class_path entry",
            "expects float. Got value: x",
        ),
        (
            "the following arguments are required: fit.data.root",
            "the following arguments are required: fit.data.root; give --config FILE, or --run RUN",
        ),
    ],
)
def test_one_line_without_what_says_nothing(told: str, line: str) -> None:
    assert explain(ValueError(told)) == line


def test_a_wrong_class_name_is_answered_with_those_there_are() -> None:
    told = 'Parser key "model.fusion":\n  Expected a dot import path string: Concat'
    line = explain(ValueError(told))
    assert line.startswith("model.fusion: Concat is no FusionHead")
    assert "ConcatFusion, CrossAttentionFusion, DualBranchTransformer" in line


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("--model.lrr=3", "there is no option --model.lrr; did you mean --model.lr?"),
        ("model.lr=3", "model.lr=3 belongs to no option; options begin with --, as in --model.lr=3"),
        ("--other=3", "there is no option --other"),
    ],
)
def test_an_option_that_there_is_not_is_answered_with_the_nearest(typed: str, line: str) -> None:
    told = ValueError(f"unrecognized arguments: {typed}")
    assert explain(told, known=["model.lr", "model.warmup"]) == line


def test_a_key_that_there_is_not_has_a_file_and_a_line() -> None:
    given = Given((("a.yaml", {"model.lrr": 3}), ("b.yaml", {"model.lrr": 7, "data.init_args.n": 1})))
    told = ValueError("Subcommand 'fit' does not accept option 'model.lrr'")
    assert explain(told, given, ["model.lr"]) == (
        "b.yaml, line 7: there is no option model.lrr; did you mean model.lr?"
    )
    typed = Given(given.files, {"model.lrr": "3"})
    assert explain(told, typed).startswith("there is no option")
    wrong = ValueError(
        'Parser key "data":\n  Problem with given class_path \'X\':\n    Parser key "n":\n'
        "      Expected a <class 'int'>. Got value: x"
    )
    assert explain(wrong, given) == "b.yaml, line 1: data.init_args.n: expects int. Got value: x"
    # Both may give it: the file's was wrong.
    both = Given(given.files, {"data.n": "2"})
    assert explain(wrong, both).startswith("b.yaml, line 1: ")


def test_so_is_a_wrong_data_module() -> None:
    importlib.import_module("abaw.data.feature_datamodule")  # as the command line does
    told = 'Parser key "data":\n  Expected a dot import path string: Feature'
    line = explain(ValueError(told))
    assert line.startswith("data: Feature is no WindowDataModule")
    assert "AffWild2DataModule, FeatureDataModule" in line
