import logging
import warnings

import pytest

from abaw.quiet import quieten


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Lightning's logger lets through, with everything put back afterwards."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    messages: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: messages.append(record.getMessage()))
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(warnings, "filters", list(warnings.filters))
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    return messages


def test_advertisements_are_left_out(said: list[str]) -> None:
    quieten()
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.warning("💡 Tip: buy something")
    logger.warning("GPU available: False")
    assert said == ["GPU available: False"]


def test_warnings_are_a_line_without_a_place(said: list[str]) -> None:
    quieten()
    line = warnings.formatwarning("5 of 8 videos\nare short", UserWarning, "where.py", 7, "rank_zero_warn(")
    assert line == "abaw: warning: 5 of 8 videos are short\n"
    assert warnings.formatwarning("x", FutureWarning, "where.py", 7) == "abaw: FutureWarning: x\n"


def test_pointless_warnings_are_left_out(said: list[str], recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("always")
    quieten()
    warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated", FutureWarning, stacklevel=1)
    warnings.warn("something else", FutureWarning, stacklevel=1)
    assert [str(warning.message) for warning in recwarn] == ["something else"]
