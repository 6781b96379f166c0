"""``abaw robustness``: what it shares with ``test``, and what it makes of a run."""

import json
from pathlib import Path

import pytest
import torch
from small import EXAMPLES, SMALL, fit_arguments

from abaw.cli import main
from abaw.postprocess import Decoder, Postprocessing

QUIET = "--trainer.enable_progress_bar=false"


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, trained once."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(fit_arguments(corpus, folder)) == 0
    return folder


def robustness(run: Path, *options: str) -> dict:
    assert main(["robustness", f"--run={run}", QUIET, *options]) == 0
    return json.loads((run / "robustness" / "robustness.json").read_text())


def test_undamaged_it_scores_what_test_does(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = robustness(run)
    printed = capsys.readouterr().out
    assert str(run / "robustness") in printed
    assert not (run / "test").exists(), "the report of a test is another command's"
    assert main(["test", f"--run={run}", QUIET]) == 0
    tested = json.loads((run / "test" / "test.json").read_text())
    assert (report["videos"], report["class_names"]) == (tested["videos"], tested["class_names"])
    for condition in ("audio+video", "video only", "audio only"):
        mine, its = report["results"][condition], tested["results"][condition]
        assert {key: mine[key] for key in its.keys() - {"frames_left_out"}} == {
            key: its[key] for key in its.keys() - {"frames_left_out"}
        }
    assert len(report["results"]) == 49
    assert all(figures["frames"] == mine["frames"] for figures in report["results"].values())


def test_a_seed_and_a_folder_can_be_chosen(run: Path, tmp_path: Path) -> None:
    assert main(["robustness", f"--run={run}", QUIET, "--seed=3", f"--output_dir={tmp_path / 'out'}"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["robustness.json", "robustness.png"]
    assert json.loads((tmp_path / "out" / "robustness.json").read_text())["seed"] == 3


def test_labels_follow_what_was_tuned_as_in_a_test(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other"]
    always = Decoder(bias=tuple(99.0 * (c == 6) for c in range(8)))
    tuned = run / "postprocess.yaml"
    Postprocessing(tuple(names), always).write(tuned)
    try:
        report = robustness(run)
    finally:
        tuned.unlink()
    assert report["decided_by"] == {"final parameters": report["videos"]}
    assert "Labels by postprocess.yaml: 0 videos" in " ".join(capsys.readouterr().out.split())
    for figures in report["results"].values():
        assert all(row[c] == 0 for row in figures["confusion_matrix"] for c in range(8) if c != 6)


@pytest.mark.slow
def test_a_model_that_only_hears_is_not_shown_anything(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [option for option in SMALL if "visual" not in option and "fusion" not in option]
    where = [f"--data.root={corpus}", f"--trainer.default_root_dir={tmp_path}"]
    assert main(["fit", f"--config={EXAMPLES / 'audio_only.yaml'}", *where, *options]) == 0
    report = robustness(tmp_path)
    assert set(report["curves"]) == {
        f"audio {loss}"
        for loss in ("lost at random", "lost in stretches", "zeroed unannounced", "frozen unannounced")
    }
    assert "conditions that need more are left out" in " ".join(capsys.readouterr().out.split())


def test_a_broken_model_is_told_in_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    for name, weights in checkpoint["state_dict"].items():
        if name.startswith("fusion."):
            weights.fill_(torch.nan)
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    capsys.readouterr()
    arguments = [f"--run={run}", QUIET, f"--ckpt_path={tmp_path / 'broken.ckpt'}"]
    with pytest.warns(UserWarning, match="not finite"):
        assert main(["robustness", *arguments, f"--output_dir={tmp_path / 'out'}"]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("abaw: error: ")]
    assert "scores (frames of windows) are not finite" in line
    assert not (tmp_path / "out").exists()


def test_nothing_trained_is_told(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = EXAMPLES / "quickstart.yaml"
    assert main(["robustness", f"--config={config}", f"--data.root={corpus}", *SMALL]) == 2
    assert "there is nothing trained to robustness" in capsys.readouterr().err
