from pathlib import Path

import numpy as np
import pytest

from abaw.data.annotations import read_annotation, read_class_names
from abaw.errors import InputError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_reads_every_row_not_annotated_ones_included(tmp_path: Path, end: str):
    path = write(tmp_path / "v.txt", (end or "\n").join(["A,B,C", "0", "-1", "2", "1"]) + end)
    annotation = read_annotation(path)
    assert annotation.class_names == ("A", "B", "C")
    assert annotation.labels.dtype == np.int64
    assert annotation.labels.tolist() == [0, -1, 2, 1]


def test_header_may_have_a_byte_order_mark_and_blanks(tmp_path: Path):
    assert read_class_names(write(tmp_path / "v.txt", "\ufeffA, B\n0\n")) == ("A", "B")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "is empty"),
        ("A,B\n", "no labels"),
        ("A,B\n0\n2\n", "line 3"),
        ("A,B\n-2\n", "line 2"),
        ("A,B\n0\nhappy\n0\n", "line 3"),
        ("A,B\n0\n\n0\n", "line 3"),
        ("A,B\n0.5\n", "line 2"),
        ("A,B\n99999999999999999999\n", "line 2"),
        ("0\n1\n", "line 1"),
        ("0,1\n", "line 1"),
        ("A,A\n0\n", "line 1"),
        ("A,\n0\n", "line 1"),
    ],
)
def test_bad_file_is_named_with_its_line(tmp_path: Path, text: str, line: str):
    path = write(tmp_path / "v.txt", text)
    with pytest.raises(InputError) as error:
        read_annotation(path)
    assert str(path) in str(error.value)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_file_that_cannot_be_opened_is_named(tmp_path: Path):
    (tmp_path / "v.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(InputError, match=r"v\.txt: can't be read.*No such file"):
        read_annotation(tmp_path / "v.txt")
