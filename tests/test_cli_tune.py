"""``abaw tune``, and what ``test`` and ``predict`` make of its file."""

import json
import re
from pathlib import Path

import pytest
from small import fit_arguments, told_in_one_line

from abaw.cli import main
from abaw.postprocess import Decoder, HeldOut, Postprocessing

QUIET = "--trainer.enable_progress_bar=false"


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, trained once."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(fit_arguments(corpus, folder)) == 0
    return folder


def report_of(run: Path, folder: Path, *options: str) -> dict:
    assert main(["test", f"--run={run}", QUIET, f"--report.output_dir={folder}", *options]) == 0
    return json.loads((folder / "test.json").read_text())


def test_a_test_gives_the_held_out_gain_that_tune_promised(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", f"--run={run}", QUIET, "--folds=3"]) == 0
    printed = capsys.readouterr().out
    path = run / "postprocess.yaml"
    assert str(path) in printed
    parameters = Postprocessing.read(path)
    assert len(parameters.folds) == 3
    # The quickstart's labels last: most transitions are to the same class.
    assert parameters.transitions is not None
    assert sum(row[i] for i, row in enumerate(parameters.transitions)) > 0.8 * sum(
        map(sum, parameters.transitions)
    )

    plain = report_of(run, tmp_path / "plain", "--inference.postprocess=null")
    assert plain["decided_by"] == {"vote": plain["videos"]}
    tuned = report_of(run, tmp_path / "tuned")
    idle = sum(len(fold.videos) for fold in parameters.folds if fold.decoder == Decoder())
    counts = {"vote": idle, "held-out parameters": plain["videos"] - idle}
    assert tuned["decided_by"] == {by: count for by, count in counts.items() if count}
    gain = float(re.search(r"^  chosen +(\S+)", printed, re.MULTILINE)[1])
    expected = gain if parameters.decoder != Decoder() else 0
    f1 = {name: report["results"]["audio+video"]["f1"] for name, report in (("+", tuned), ("-", plain))}
    assert f1["+"] - f1["-"] == pytest.approx(expected, abs=6e-4)


def always(label: int) -> Decoder:
    return Decoder(bias=tuple(99.0 * (c == label) for c in range(8)))


def predicted(run: Path, folder: Path, *options: str) -> set[str]:
    arguments = [f"--run={run}", QUIET, f"--predictions.output_dir={folder}", *options]
    assert main(["predict", *arguments]) == 0
    return {row.split(",")[1] for row in (folder / "predictions.txt").read_text().splitlines()[1:]}


def test_predictions_take_the_run_s_file_and_another_checkpoint_does_not(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other"]
    folds = (HeldOut(("no video of the test set",), always(1)),)
    Postprocessing(tuple(names), always(6), folds).write(run / "postprocess.yaml")
    assert predicted(run, tmp_path / "own") == {"6"}
    assert predicted(run, tmp_path / "off", "--inference.postprocess=null") != {"6"}
    assert predicted(run, tmp_path / "other", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}") != {"6"}

    Postprocessing(tuple(names[::-1]), always(6)).write(run / "postprocess.yaml")
    capsys.readouterr()
    assert main(["test", f"--run={run}", QUIET]) == 2
    assert "postprocess.yaml: was fitted for the classes Other,Surprise" in capsys.readouterr().err


def test_too_few_folds_are_told_in_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", f"--run={run}", QUIET, "--folds=2"]) == 2
    assert "abaw: error: folds must be at least 3, not 2." in capsys.readouterr().err


def test_parameters_are_not_fitted_to_another_checkpoint_s_scores(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = f"{run / 'checkpoints' / 'last.ckpt'}"
    for option in ("--ckpt_path", "--weights"):
        assert "leave --ckpt_path and --weights out" in told_in_one_line(
            ["tune", f"--run={run}", f"{option}={other}"], capsys
        )


def test_training_again_removes_what_suits_the_old_weights(run: Path, corpus: Path) -> None:
    Postprocessing(("calm", "glad"), Decoder()).write(run / "postprocess.yaml")
    assert main(["fit", f"--run={run}", QUIET]) == 0  # it has ended: nothing is trained
    assert (run / "postprocess.yaml").exists()
    assert main([*fit_arguments(corpus, run), "--trainer.limit_train_batches=1"]) == 0
    assert not (run / "postprocess.yaml").exists()
