import abc

import pytest

from abaw.fusion import ConcatFusion, FusionHead
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
        ("unrecognized arguments: --model.lrr 3", "unrecognized arguments: --model.lrr 3"),
        (
            "Parser key \"model.lr\":\n  Expected a <class 'float'>. Got value: abc",
            "model.lr: Expected a <class 'float'>. Got value: abc",
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
            "Expected a <class 'float'>. Got value: x",
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


def test_so_is_a_wrong_data_module() -> None:
    told = 'Parser key "data":\n  Expected a dot import path string: Feature'
    line = explain(ValueError(told))
    assert line.startswith("data: Feature is no WindowDataModule")
    assert "AffWild2DataModule, FeatureDataModule" in line
