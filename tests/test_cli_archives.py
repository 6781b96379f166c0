"""The commands on the organisers' archives as they unpack."""

from pathlib import Path

import pytest
import torch
import yaml
from aff_wild2_files import unpack
from small import fit_arguments, told_in_one_line

from abaw.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


def test_trains_and_predicts(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    root, run = unpack(corpus, tmp_path / "unpacked"), tmp_path / "run"
    assert main(fit_arguments(Path("~/unpacked"), run)) == 0
    assert main(["predict", f"--run={run}"]) == 0
    (template,) = corpus.glob("*test_set_sample.txt")
    rows = (run / "predictions/predictions.txt").read_text().splitlines()
    asked = template.read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == [row.split(",")[0] for row in asked]
    capsys.readouterr()

    (root / "Expr_old_test_set_sample.txt").write_text(asked[0] + "\nother/00001.jpg,\n")
    assert "Expr" in told_in_one_line(["predict", f"--run={run}"], capsys)

    parts = ["--data.crops=[~/unpacked/cropped_aligned,~/unpacked/cropped_aligned_new_50_vids]"]
    parts += ["--data.videos=~/unpacked", "--data.annotations=~/unpacked/6th ABAW Annotations"]
    lists = tmp_path / "lists"
    lists.mkdir()
    given = tmp_path / "given"
    assert main([*fit_arguments(lists, given), *parts]) == 0
    saved = torch.load(given / "checkpoints/best.ckpt", weights_only=True)["datamodule_hyper_parameters"]
    typed = yaml.safe_load((given / "config.yaml").read_text())["data"]
    for recorded in (saved, typed.get("init_args", typed)):
        crops = [Path(path).expanduser() for path in recorded["crops"]]
        assert crops == [root / "cropped_aligned", root / "cropped_aligned_new_50_vids"]
        assert Path(recorded["videos"]).expanduser() == root
        assert Path(recorded["annotations"]).expanduser() == root / "6th ABAW Annotations"
    one, other = (
        torch.load(r / "checkpoints/best.ckpt", weights_only=True)["state_dict"] for r in (run, given)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
