"""The pages of docs/ whose code shows something: it runs as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(page: Path) -> dict[str, Any]:
    """The names that a page leaves behind, its blocks run in their order."""
    text, names = page.read_text(), {}
    for block in CODE.finditer(text):
        # A traceback then names the page and the line.
        above = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(above + block[1], page, "exec"), names)
    return names


def test_safe_cross_attention(capsys: pytest.CaptureFixture[str]) -> None:
    run(DOCS / "safe_cross_attention.md")
    violations = capsys.readouterr().out
    assert "FaceAsksVoice breaks the contract" in violations
    assert re.findall(r"^- (\w+):", violations, re.MULTILINE) == ["batch", "export"]


def test_the_plain_rival_has_twenty_lines() -> None:
    first = CODE.search((DOCS / "safe_cross_attention.md").read_text())
    assert first is not None
    assert len([line for line in first[1].splitlines() if line]) == 20
