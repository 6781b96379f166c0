from pathlib import Path

import pytest

from abaw.errors import InputError
from abaw.given import read_given


def test_places_are_those_of_the_last_file_that_gives_a_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model:\n  fusion:\n    init_args:\n      dim: 1\n  lr: 1\n")
    (tmp_path / "b.yaml").write_text("# of mine\nmodel:\n  fusion:\n    dim: 2\n")
    given = read_given([f"--config={tmp_path}/a.yaml", "-c", f"{tmp_path}/b.yaml", "--model.warmup", "0"])
    assert given.place("model.fusion.init_args.dim") == f"{tmp_path}/b.yaml, line 4: "
    assert given.place("model.lr") == f"{tmp_path}/a.yaml, line 5: "
    assert given.place("model.warmup") == given.place("model.gamma") == ""


def test_a_file_that_a_configuration_names_is_read_as_strictly(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("model:\n  fusion: head.yaml\n")
    head = tmp_path / "head.yaml"
    head.write_text("class_path: ConcatFusion\ninit_args: {dropout: 0.5}\n")
    given = read_given([f"--config={tmp_path}/own.yaml"])
    assert given.place("model.fusion.dropout") == f"{head}, line 2: "
    head.write_text("class_path: ConcatFusion\nclass_path: GatedFusion\n")
    for arguments in ([f"--config={tmp_path}/own.yaml"], ["--model.fusion", str(head)]):
        with pytest.raises(InputError, match=r"head\.yaml, lines 1 and 2: class_path is given twice"):
            read_given(arguments)


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.yaml").write_text("model:\n  lr: 1\n")
    assert read_given(["--config=~/a.yaml"]).place("model.lr") == f"{tmp_path}/a.yaml, line 2: "
