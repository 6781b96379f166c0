import ast
from pathlib import Path

import pytest

import abaw

FILES = sorted(Path(abaw.__file__).parent.rglob("*.py"))


def without_encoding(tree: ast.AST) -> list[int]:
    """Lines that open a text file as the locale has it."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        of_path = isinstance(function, ast.Attribute)
        given = {keyword.arg for keyword in node.keywords}
        texts = [value.value for value in node.args if isinstance(value, ast.Constant)]
        if name == "read_text" and of_path and not node.args and "encoding" not in given:
            found.append(node.lineno)
        if name == "write_text" and len(node.args) < 2 and "encoding" not in given:
            found.append(node.lineno)
        if name == "open" and not of_path and "encoding" not in given and "b" not in "".join(map(str, texts)):
            found.append(node.lineno)
    return found


def test_the_finder_finds() -> None:
    code = (
        "a.read_text()\nb.write_text(t)\nopen(p)\nopen(p, 'rb')\na.read_text('utf-8')\nb.write_text(t, 'x')\n"
    )
    assert without_encoding(ast.parse(code)) == [1, 2, 3]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_text_is_utf8_whatever_the_locale(path: Path) -> None:
    assert without_encoding(ast.parse(path.read_text(encoding="utf-8"))) == []
