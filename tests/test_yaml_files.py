import codecs
from pathlib import Path
from typing import Any

import pytest
import yaml

from abaw.errors import InputError
from abaw.yaml_files import dump_yaml, lines_of_keys, read_yaml


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "own.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "lines", "key"),
    [
        ("lr: 1\nwarmup: 0\nlr: 2\n", "1 and 3", "lr"),
        ("model:\n  lr: 1\n  'lr': 1\n", "2 and 3", "lr"),
        ("a:\n- b: 1\n  c: 2\n  b: 3\n", "2 and 4", "b"),
        ("a: {b: 1, b: 2}\n", "1 and 1", "b"),
        ("x: &x {b: 1}\na:\n  <<: *x\n  b: 2\n  b: 3\n", "4 and 5", "b"),
        ('{"a": 1,\n "a": 2}', "1 and 2", "a"),  # JSON is YAML
        ("1: a\n1: b\n", "1 and 2", "1"),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(
    text: str, lines: str, key: str, tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_yaml(path)
    assert str(error.value) == f"{path}, lines {lines}: {key} is given twice; keep one"


def test_what_is_merged_in_may_be_replaced(tmp_path: Path) -> None:
    text = "x: &x {lr: 1, c: 2}\ny: &y\n  <<: *x\n  lr: 3\nz:\n  <<: [*y]\n  d: &d [1]\nw: *d\n"
    expected = yaml.safe_load(text)
    assert expected["z"] == {"lr": 3, "c": 2, "d": [1]}
    assert read_yaml(written(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5e1", 5.0),
        ("1.", 1.0),
        ("1e-3x", "1e-3x"),
        ("e5", "e5"),
        ("2020-01-02", "2020-01-02"),
        ("yes", True),
        ("'no'", "no"),
    ],
)
def test_values_are_what_they_look_like(text: str, value: object, tmp_path: Path) -> None:
    read = read_yaml(written(tmp_path, f"a: {text}\n"))["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "tree",
    [
        {"videos": ["1e5", "12e3", "no", "2020-01-02", "007", "null", "1_000", "é", "a: b", "~", "\udcff"]},
        {"bias": [0.1, 1e-9, 1e22, float("inf")], "n": [1, -1, True, None]},
    ],
)
def test_what_is_written_is_read(tree: Any, tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, dump_yaml(tree))) == tree


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n\tc: 1\n", "line 3: is not YAML: found character '\\t'"),
        ("a: 1\n\nb: \x00\n", "line 3: holds the control character U+0000; take it out"),
        ("é: 1\n".encode("latin-1"), "is not a text file in UTF-8"),
        ("a: 1\n".encode("utf-16"), "is not a text file in UTF-8"),
        ("a: !!int x\n", "is not YAML: invalid literal"),
        ("[" * 5000, "is not YAML: maximum recursion"),
        ("a: 1\n---\nb: 2\n", "line 2: is not YAML: but found another document"),
        ("a: !!python/name:os.system\n", "line 1: is not YAML: could not determine a constructor"),
    ],
)
def test_what_cannot_be_read_is_told(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_yaml(path)
    assert f"{path}" in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_marks_and_line_ends_of_other_systems_are_no_matter(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, codecs.BOM_UTF8 + b"a: 1\r\nb: 2\r\n")) == {"a": 1, "b": 2}


def test_lines_of_keys(tmp_path: Path) -> None:
    text = "x: &x\n  b: 1\n  c: 1\na:\n  <<: *x\n  c: 2\n  d:\n  - e: 1\n  - f\nloop: &l\n  again: *l\n"
    lines = lines_of_keys(written(tmp_path, text))
    expected = {"x": 1, "x.b": 2, "x.c": 3, "a": 4, "a.b": 2, "a.c": 6, "a.d": 7, "a.d.0": 8, "a.d.0.e": 8}
    assert lines == {**expected, "a.d.1": 9, "loop": 10, "loop.again": 11}
    assert lines_of_keys(written(tmp_path, "")) == {}
