"""Where a run's configuration may have things written."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from abaw.run_config import config_of_run


def write(folder: Path, tree: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"predictions": {"output_dir": "/x/y"}}, {"predictions": {"output_dir": None}}),
        ({"predictions": '{"output_dir": "/x/y"}'}, {"predictions": {"output_dir": None}}),
        ({"report": {"output_dir": "elsewhere"}}, {"report": {"output_dir": None}}),
        ({"predictions.output_dir": "~/x"}, {"predictions.output_dir": None}),
        ({"output_dir": "../x"}, {"output_dir": None}),
        ({"checkpoint": {"dirpath": "{run}/../x"}}, {"checkpoint": {"dirpath": None}}),
        ({"data": {"init_args": {"cache_dir": "/x"}}}, {"data": {"init_args": {"cache_dir": None}}}),
        (
            {"trainer": {"logger": {"init_args": {"save_dir": "/x", "name": "../x"}}}},
            {"trainer": {"logger": {"init_args": {"save_dir": "{run}", "name": "__x"}}}},
        ),
        (
            {"trainer": {"callbacks": [{"init_args": {"dirpath": "/x", "filename": "/y"}}]}},
            {"trainer": {"callbacks": [{"init_args": {"dirpath": "{run}", "filename": "_y"}}]}},
        ),
    ],
)
def test_what_leads_outside_is_left_out_and_told(
    tree: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    tree, expected = (yaml.safe_load(yaml.safe_dump(t).replace("{run}", str(run))) for t in (tree, expected))
    path = write(run, tree)
    with pytest.warns(UserWarning, match="lies outside of the run's folder") as caught:
        assert yaml.safe_load(config_of_run(path, run, ())) == expected
    assert len(caught) == 1
    assert str(path) in str(caught[0].message)


def test_what_stays_inside_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    tree = {
        "predictions": {"output_dir": "run/mine"},
        "report": {"output_dir": str(tmp_path / "link" / "test")},
        "checkpoint": {"dirpath": None},
        "trainer": {"default_root_dir": "/x"},  # --run says another
        "data": {"root": "/data/corpus"},
    }
    path = write(tmp_path / "run", tree)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert config_of_run(path, tmp_path / "run", ()) == str(path)


def test_what_is_typed_beside_it_needs_no_word(tmp_path: Path) -> None:
    path = write(tmp_path / "run", {"data": {"init_args": {"cache_dir": "/x"}}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = config_of_run(path, tmp_path / "run", (), {"data.cache_dir"})
    assert yaml.safe_load(config) == {"data": {"init_args": {"cache_dir": None}}}
