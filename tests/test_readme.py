"""The fusion head that the README shows."""

import re
from pathlib import Path

from abaw.testing import check_fusion_head

README = Path(__file__).parents[1] / "README.md"


def test_the_ten_line_head_has_ten_lines_and_keeps_the_contract() -> None:
    match = re.search(
        r"## Your own fusion head in ten lines\n+```python\n(.*?)```", README.read_text(), re.DOTALL
    )
    assert match is not None
    imports, head = match[1].split("\n\n\n")
    assert len([line for line in head.splitlines() if line]) == 10
    names: dict[str, type] = {}
    exec(f"{imports}\n{head}", names)
    check_fusion_head(names["MeanFusion"](6, 5, 4))
