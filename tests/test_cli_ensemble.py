import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small import fit_arguments, told_in_one_line

from abaw import EXPRESSIONS
from abaw.cli import main
from abaw.postprocess import (
    Decoder,
    Postprocessing,
    SavedScores,
    check_submission,
    load_scores,
    save_scores,
)

QUIET = "--trainer.enable_progress_bar=false"


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs, trained once with different seeds."""
    folders = [tmp_path_factory.mktemp("runs") / name for name in ("first", "second")]
    for seed, folder in enumerate(folders):
        options = [f"--seed_everything={seed}", "--trainer.limit_train_batches=1"]
        assert main([*fit_arguments(corpus, folder), *options]) == 0
    return folders


def predict(runs, output, *options):
    given = [f"--run={run}" for run in runs]
    where = [] if output is None else ["--predictions.output_dir", str(output)]
    return main(["predict", *given, *where, QUIET, *options])


def test_the_scores_are_the_mean_of_what_each_run_predicts_on_its_own(runs, corpus, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(runs, out) == 0
    printed = capsys.readouterr().out
    assert f"the mean of 2 runs: {out / 'scores'}" in printed
    for run in runs:
        assert predict([run], tmp_path / run.name) == 0

    paths = sorted((out / "scores").iterdir())
    assert paths
    labels = {}
    for path in paths:
        alone = [load_scores(tmp_path / run.name / "scores" / path.name) for run in runs]
        kept = [load_scores(out / f"run{number}" / "scores" / path.name) for number in (0, 1)]
        average = load_scores(path)
        for one, other in zip(alone, kept, strict=True):
            assert one.scores.equal(other.scores)
        assert not alone[0].scores.equal(alone[1].scores)
        expected = (alone[0].scores.double() + alone[1].scores.double()) / 2
        torch.testing.assert_close(average.scores.double(), expected, atol=1e-6, rtol=0)
        assert average.class_names == alone[0].class_names
        labels[path.stem] = average

    template = next(corpus.glob("*test_set_sample.txt"))
    check_submission(out / "predictions.txt", template)
    for row in (out / "predictions.txt").read_text().splitlines()[1:]:
        location, label = row.split(",")
        video, frame = location.removesuffix(".jpg").split("/")
        average, index = labels[video], int(frame) - 1
        if average.video_mask[index] and average.covered[index]:
            assert average.scores[index].argmax() == int(label)


def test_options_count_for_every_run_and_an_earlier_average_is_replaced(runs, corpus, tmp_path):
    out = tmp_path / "out"
    given = next(corpus.glob("*test_set_sample.txt")).read_text().splitlines()
    template = tmp_path / "sample.txt"
    template.write_text("\n".join([given[0], *given[:0:-1]]) + "\n")
    stale = SavedScores(*[torch.zeros(1, 8)] * 5, class_names=EXPRESSIONS)
    save_scores(out / "scores" / "stale.safetensors", stale)
    assert predict(runs, out, f"--data.template={template}", "--inference.stride=32") == 0
    for folder in (out, out / "run0", out / "run1"):
        check_submission(folder / "predictions.txt", template)
        assert not (folder / "scores" / "stale.safetensors").exists()


def test_a_fast_dev_run_averages_nothing(runs, tmp_path):
    assert predict(runs, tmp_path / "out", "--trainer.fast_dev_run=1") == 0
    assert not list((tmp_path / "out").rglob("*.*"))


@pytest.mark.slow
def test_two_processes_write_what_one_does(runs, tmp_path):
    options = ["--trainer.accelerator=cpu", "--trainer.strategy=ddp", "--trainer.devices=2", QUIET]
    given = [*(f"--run={run}" for run in runs), f"--predictions.output_dir={tmp_path}/two", *options]
    subprocess.run([sys.executable, "-m", "abaw", "predict", *given], check=True, capture_output=True)
    assert predict(runs, tmp_path / "one") == 0
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert Path("scores") in {name.parent for name in one}
    assert one == two


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict"], "say where the average of the runs goes: --predictions.output_dir DIR"),
        (["predict", "--predictions.output_dir=out", "--ckpt_path=x.ckpt"], "--ckpt_path would be taken for"),
        (["predict", "--predictions.output_dir=out", "--weights", "x.ckpt"], "--weights would be taken for"),
        (["test"], "--run is given 2 times; predict alone takes several runs"),
    ],
)
def test_what_several_runs_cannot_be_given_is_refused(
    runs, monkeypatch, tmp_path, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert message in told_in_one_line([*arguments, *(f"--run={run}" for run in runs)], capsys)
    assert list(tmp_path.iterdir()) == []


def test_every_run_is_looked_for_before_any_predicts(runs, tmp_path, capsys):
    arguments = [
        "predict",
        f"--run={runs[0]}",
        f"--run={tmp_path}/none",
        f"--predictions.output_dir={tmp_path}/o",
    ]
    assert "none is not the folder of a run" in told_in_one_line(arguments, capsys)
    assert not (tmp_path / "o").exists()


def test_runs_of_other_videos_have_no_average(runs, corpus, tmp_path, capsys):
    root = tmp_path / "root"
    shutil.copytree(corpus, root)
    release = next(root.rglob("*test_set_release.txt"))
    lost, *kept = release.read_text().splitlines()
    release.write_text("\n".join(kept) + "\n")
    sample = next(root.rglob("*test_set_sample.txt"))
    rows = [row for row in sample.read_text().splitlines() if not row.startswith(f"{lost}/")]
    sample.write_text("\n".join(rows) + "\n")
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    config = other / "config.yaml"
    config.write_text(config.read_text().replace(str(corpus), str(root)))
    arguments = [
        "predict",
        f"--run={runs[0]}",
        f"--run={other}",
        f"--predictions.output_dir={tmp_path}/out",
        QUIET,
    ]
    assert f"run1/scores lacks {lost}: predict the same videos" in told_in_one_line(arguments, capsys)
    assert not (tmp_path / "out" / "predictions.txt").exists()


def test_an_average_is_decided_by_what_is_given_for_it_alone(runs, tmp_path):
    names = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
    forced = Postprocessing(names, Decoder(bias=tuple(99.0 * (label == 5) for label in range(8))))
    own = runs[0] / "postprocess.yaml"
    forced.write(own)
    try:
        with pytest.warns(UserWarning, match="fitted to its own scores"):
            assert predict(runs, tmp_path / "plain") == 0
    finally:
        own.unlink()
    labels = {row[-1] for row in (tmp_path / "plain" / "predictions.txt").read_text().splitlines()[1:]}
    assert labels != {"5"}

    forced.write(tmp_path / "given.yaml")
    assert predict(runs, tmp_path / "decided", f"--inference.postprocess={tmp_path / 'given.yaml'}") == 0
    labels = {row[-1] for row in (tmp_path / "decided" / "predictions.txt").read_text().splitlines()[1:]}
    assert labels == {"5"}


def test_a_run_counts_once(runs, tmp_path, capsys):
    arguments = ["predict", f"--run={runs[0]}", f"--run={runs[0]}/", f"--predictions.output_dir={tmp_path}/o"]
    assert "a run is given twice" in told_in_one_line(arguments, capsys)


def test_runs_of_other_classes_are_refused_before_any_predicts(runs, tmp_path, capsys):
    other = shutil.copytree(runs[1], tmp_path / "other")
    path = other / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["class_names"][0] = "Calm"
    torch.save(checkpoint, path)
    out = tmp_path / "out"
    given = [f"--run={runs[0]}", f"--run={other}", f"--predictions.output_dir={out}"]
    line = told_in_one_line(["predict", *given], capsys)
    assert f"{other} was trained on the classes Calm,Anger" in line
    assert not out.exists()
