"""What the commands refuse or say so that no result is lost or misread."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from small import EXAMPLES, QUICKSTART, SMALL, fit_arguments, told_in_one_line

from abaw.cli import main
from abaw.errors import InputError
from abaw.files import replacing
from abaw.given import read_given


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of three folds, trained for an epoch."""
    folder = tmp_path_factory.mktemp("guards") / "run"
    assert main([*fit_arguments(corpus, folder), "--data.folds=3", "--data.fold=1"]) == 0
    return folder


def test_fit_ends_with_what_to_do_next(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = fit_arguments(corpus, tmp_path)
    assert main(arguments) == 0
    said = capsys.readouterr().out
    score = max(
        torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["callbacks"].values(), key=len
    )
    assert f"Best val/f1: {float(score['best_model_score']):.3f}, {score['best_model_path']}" in said
    assert said.rstrip().endswith(f"Next: abaw test --run {tmp_path}")
    with pytest.warns(UserWarning, match="holds a run already"):
        assert main(arguments) == 0


TRAINED_ON_SOME = (
    r"the model was trained on \d+ of the \d+ videos to be scored \(first: .*would not be honest; take"
)


def test_a_fold_is_scored_on_what_it_was_not_trained_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in (["--data.fold=0"], ["--data.folds=4"], ["--data.folds=null", "--data.fold=0"]):
        assert re.search(TRAINED_ON_SOME, told_in_one_line(["test", f"--run={run}", *options], capsys))
    assert not (run / "test").exists()


@pytest.mark.parametrize("start", ["--run={run}", "--weights={run}/checkpoints/last.ckpt"])
def test_no_training_goes_on_that_would_be_validated_on_what_it_was_trained_on(
    run: Path, corpus: Path, tmp_path: Path, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = (copy / "checkpoints" / "last.ckpt").read_bytes()
    arguments = fit_arguments(corpus, tmp_path / "warm") if "weights" in start else ["fit"]
    other = ["--data.folds=3", "--data.fold=0", "--trainer.max_epochs=2", "--trainer.num_sanity_val_steps=0"]
    line = told_in_one_line([*arguments, start.format(run=copy), *other], capsys)
    assert re.search(TRAINED_ON_SOME, line)
    assert (copy / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list(tmp_path.glob("warm/checkpoints/*"))


def link_corpus(corpus: Path, root: Path, moved: int = 0, edited: int = 0) -> Path:
    """The corpus at another place, some of its training videos moved to validation or labelled otherwise."""
    labels = root / "EXPR_Recognition_Challenge"
    shutil.copytree(corpus / labels.name, labels)
    for path in corpus.iterdir():
        if path.name != labels.name:
            (root / path.name).symlink_to(path)
    training = sorted((labels / "Train_Set").glob("[!.]*.txt"))
    for path in training[:edited]:
        *rows, last = path.read_text().splitlines()
        path.write_text("\n".join([*rows, "3" if last != "3" else "4"]) + "\n")
    for path in training[len(training) - moved :]:
        path.rename(labels / "Validation_Set" / path.name)
    return root


@pytest.fixture(scope="module")
def official(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on the official split for an epoch."""
    folder = tmp_path_factory.mktemp("guards") / "official"
    assert main(fit_arguments(corpus, folder)) == 0
    return folder


@pytest.mark.parametrize("command", ["validate", "test", "robustness", "tune"])
def test_videos_are_known_wherever_they_lie(
    official: Path, corpus: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = link_corpus(corpus, tmp_path / "other", moved=2)
    line = told_in_one_line([command, f"--run={official}", f"--data.root={root}"], capsys)
    assert "trained on 2 of the 6 videos" in line


def test_labels_that_were_edited_since_are_told_where_a_training_goes_on(
    official: Path, corpus: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(official, copy)
    root = link_corpus(corpus, tmp_path / "other", edited=2)
    options = [f"--data.root={root}", "--trainer.max_epochs=2"]
    with pytest.warns(UserWarning, match=r"the labels of 2 of \d+ training videos were edited since"):
        assert main(["fit", f"--run={copy}", *options]) == 0
    kept = torch.load(copy / "checkpoints" / "last.ckpt", weights_only=True)["trained_on"]["model"]
    assert sorted(map(len, kept.values()))[-3:] == [1, 2, 2]


def test_encoders_are_not_trained_on_what_their_features_are_validated_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["extract", f"--run={run}", str(tmp_path), "--trainer.enable_progress_bar=false"]) == 0
    small = [o for o in SMALL if "encoder" not in o and "image_size" not in o]
    precomputed = [f"--model.{slot}_encoder=PrecomputedEncoder" for slot in ("visual", "audio")]
    data = ["--data=FeatureDataModule", f"--data.root={tmp_path}", "--data.folds=3", "--data.fold=0"]
    arguments = [f"--config={QUICKSTART}", *data, *precomputed, *small]
    line = told_in_one_line(["fit", *arguments, f"--trainer.default_root_dir={tmp_path / 'head'}"], capsys)
    assert re.search(TRAINED_ON_SOME, line)


@pytest.mark.parametrize("command", ["test", "fit"])
def test_an_older_checkpoint_is_held_to_its_fold(
    run: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for path in (copy / "checkpoints").iterdir():
        checkpoint = torch.load(path, weights_only=True)
        del checkpoint["trained_on"]
        torch.save(checkpoint, path)
    assert main(["validate", f"--run={copy}", "--trainer.enable_progress_bar=false"]) == 0
    capsys.readouterr()
    line = told_in_one_line([command, f"--run={copy}", "--data.fold=0"], capsys)
    assert "the model was trained with data.fold=1" in line


def test_rows_without_a_template_are_told(run: Path, corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for path in corpus.iterdir():
        if not path.name.endswith("sample.txt"):
            (root / path.name).symlink_to(path)
    where = [f"--data.root={root}", f"--predictions.output_dir={tmp_path / 'out'}"]
    with pytest.warns(UserWarning, match="there is no submission template"):
        assert main(["predict", f"--run={run}", *where, "--trainer.enable_progress_bar=false"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [1,\nlr: }", r"own\.yaml, line 2: is not YAML"),
        ("", r"own\.yaml: holds no configuration"),
        ("only text", r"own\.yaml: holds no configuration"),
        (b"\xff\xfe\x00", r"own\.yaml: is not a text file"),
        (None, r"own\.yaml: cannot be read"),
        ("model:\n  lr: 1\ntrainer:\n  lr: 2\nmodel:\n", r"own\.yaml, lines 1 and 5: model is given twice"),
        (b"model:\n  lr: 1 # \x07\n", r"own\.yaml, line 2: holds the control character U\+0007"),
        ("model:\n  lr: 1\nreport:\n", r"own\.yaml, line 3: report holds no options"),
        ("checkpoint: null\n", r"own\.yaml, line 1: checkpoint holds no options"),
        ("model: [1, 2]\n", r"own\.yaml, line 1: model holds no options"),
        ("model:\n  fusion:\n    class_path:\n", r"own\.yaml, line 3: model\.fusion\.class_path is empty"),
    ],
)
@pytest.mark.parametrize("style", ["--config={}", "--config {}", "-c {}"])
def test_a_broken_configuration_is_named(
    tmp_path: Path, text: str | bytes | None, message: str, style: str
) -> None:
    path = tmp_path / "own.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        read_given(style.format(path).split())


def test_a_class_of_ones_own_is_found_where_the_command_is_typed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_head_of_test.py").write_text("from abaw.fusion import ConcatFusion as OwnHead\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    arguments = ["fit", f"--config={QUICKSTART}", f"--data.root={corpus}", "--data.fold=9"]
    assert main([*arguments, "--model.fusion=own_head_of_test.OwnHead"]) == 2
    # The head is no problem: the fold is.
    assert "folds is not set" in capsys.readouterr().err


def test_a_wrong_name_in_a_right_module_is_answered_with_the_names(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", f"--config={QUICKSTART}", f"--data.root={corpus}"]
    assert main([*arguments, "--model.fusion=abaw.fusion.ConcatFusionn"]) == 2
    assert "did you mean ConcatFusion? There are ConcatFusion, " in capsys.readouterr().err


def test_a_run_without_a_word_on_its_loss_is_resumed(corpus: Path, tmp_path: Path) -> None:
    config = [f"--config={EXAMPLES / 'audio_only.yaml'}", f"--data.root={corpus}"]
    quick = [option for option in SMALL if "visual" not in option and "fusion" not in option]
    where = [f"--trainer.default_root_dir={tmp_path}", "--trainer.limit_train_batches=1"]
    assert main(["fit", *config, *quick, *where]) == 0
    assert main(["fit", f"--run={tmp_path}", "--trainer.max_epochs=2"]) == 0
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 1


def test_half_precision_throughout_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = told_in_one_line(["test", f"--run={run}", "--trainer.precision=bf16-true"], capsys)
    assert "take bf16-mixed" in line


def test_a_warm_start_starts_the_ramp_of_dropout_anew(corpus: Path, tmp_path: Path) -> None:
    ramp = ["--model.modality_dropout=ModalityDropout", "--model.modality_dropout.init_args.ramp_steps=100"]
    steps = {}
    for name, start in {"first": [], "warm": [f"--weights={tmp_path}/first/checkpoints/last.ckpt"]}.items():
        assert main([*fit_arguments(corpus, tmp_path / name), *ramp, *start]) == 0
        checkpoint = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        steps[name] = int(checkpoint["state_dict"]["modality_dropout.step"])
    assert steps["first"] == steps["warm"] > 0


def test_run_is_an_option_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    assert re.search(r"--run RUN\s+The folder of a run", capsys.readouterr().out)


def test_an_interrupt_before_anything_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("abaw.cli._run", interrupted)
    assert main(["fit"]) == 130
    assert capsys.readouterr().err == "abaw: interrupted\n"


def test_written_files_can_be_read_by_colleagues(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with replacing(tmp_path / "written") as temporary:
        temporary.write_text("x")
        temporary.chmod(0o600)
    assert (tmp_path / "written").stat().st_mode == plain.stat().st_mode
