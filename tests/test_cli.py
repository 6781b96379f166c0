import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from small import QUICKSTART, fit_arguments, told_in_one_line

from abaw.cli import main


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, trained once."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(fit_arguments(corpus, folder)) == 0
    return folder


def test_help_and_version_need_no_torch() -> None:
    code = (
        "import sys; from abaw.cli import main; assert main(['--help']) == main(['--version']) == 0;"
        "import abaw; heavy = {'torch', 'lightning', 'transformers', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy; abaw.ExpressionModule; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in ("synth", "fit", "validate", "test", "robustness", "predict", "tune", "extract", "submit"):
        assert f"\n  {command} " in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tset"], "there is no command 'tset'; did you mean test?"),
        (["fit"], "data: AffWild2DataModule needs root: give --data.root VALUE, --config FILE, or --run RUN"),
        (["fit", "--config=none.yaml"], "none.yaml"),
        (["fit", f"--config={QUICKSTART}", "--data.root=/no/where"], "/no/where: no such folder"),
        (["test", "--run"], "--run needs a value"),
        (["test", "--run=/no/where"], "is not the folder of a run"),
        (["test", "--ckpt_path=some.ckpt"], "add --run RUN or --config FILE"),
    ],
)
def test_bad_commands(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in told_in_one_line(arguments, capsys)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--model.fusion=DualBranch", "there are ConcatFusion, CrossAttentionFusion, DualBranchTransformer"),
        ("--model.fusion=FocalLoss", "FocalLoss is no FusionHead"),
        ("--model.visual_encoder.class_path=X", "ConvVisualEncoder"),
        (
            "--model.fusion.init_args.dimm=3",
            "model.fusion.init_args.dimm: DualBranchTransformer has no argument",
        ),
        ("--model.fusion.init_args.dimm=3", "did you mean dim?"),
        (
            "--model.fusion.init_args.num_heads=7",
            "model.fusion.init_args.num_heads: num_heads must divide dim",
        ),
        (
            "--data.rooot=x",
            "data.init_args.rooot: AffWild2DataModule has no argument 'rooot'; did you mean root?",
        ),
        ("--model.warmu=1", "did you mean --model.warmup?"),
        ("--report=null", "report: null is no file of options"),
        ("--trainer.max_epochs=abc", "trainer.max_epochs: expects int. Got value: abc"),
        ("--trainer.callbacks=EarlyStoppin", "did you mean EarlyStopping?"),
        (
            "--checkpoint.monitor=val/f2",
            "checkpoint.monitor: RunCheckpoint waits for val/f2, which nothing logs",
        ),
        ("--model.fusion.init_args.visual_dim=3", "leave it out"),
        ("--model.modality_dropout.init_args.p_visual=2", "p_visual must be at most 1"),
        ("--model.lr=fast", "model.lr"),
        ("--model.warmup=7", "warmup must be at most 1"),
        ("--inference.window=3", "data.init_args.window"),
        ("--ckpt_path=no.ckpt", "there is no checkpoint no.ckpt"),
        ("--weights=no.ckpt", "there is no checkpoint no.ckpt"),
        ("--trainer.precision=77", "trainer.precision"),
    ],
)
def test_bad_options(option: str, words: str, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", f"--config={QUICKSTART}", f"--data.root={corpus}", option]
    assert words in told_in_one_line(arguments, capsys)


def test_a_run_is_one_folder(run: Path) -> None:
    assert {path.name for path in run.iterdir()} >= {"config.yaml", "checkpoints", "logs"}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert "ckpt_path" not in config
    # The checkpoint holds plain data and tensors alone.
    torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)


def test_test_writes_table_json_and_picture(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", f"--run={run}", "--trainer.enable_progress_bar=false"]) == 0
    table = capsys.readouterr().out
    for row in ("audio+video", "video only", "audio only", "majority"):
        assert row in table
    results = json.loads((run / "test" / "test.json").read_text())
    assert "audio+video" in json.dumps(results)
    assert (run / "test" / "confusion_matrix.png").stat().st_size > 1000


def test_predict_writes_exactly_the_templates_rows(run: Path, corpus: Path) -> None:
    assert main(["predict", f"--run={run}", "--trainer.enable_progress_bar=false"]) == 0
    written = (run / "predictions" / "predictions.txt").read_text().splitlines()
    template = next(corpus.glob("*test_set_sample.txt")).read_text().splitlines()
    assert written[0] == template[0]
    assert [row.split(",")[0] for row in written] == [row.split(",")[0] for row in template]
    assert all(row.split(",")[1] in set("01234567") and row.count(",") == 1 for row in written[1:])
    names = {row.split("/")[0] for row in template[1:]}
    scores = {path.stem: path for path in (run / "predictions" / "scores").glob("*.safetensors")}
    assert set(scores) == names
    for name, path in scores.items():
        with safe_open(path, "pt") as file:
            assert file.get_tensor("scores").shape == (sum(r.startswith(f"{name}/") for r in template), 8)


def test_validate_takes_overrides(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses = []
    for stride in ("4", "32"):
        arguments = [f"--run={run}", f"--inference.stride={stride}", "--trainer.enable_progress_bar=false"]
        assert main(["validate", *arguments]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if "val/loss" in line)
        losses.append(line)
    assert losses[0] != losses[1]


def test_the_checkpoint_alone_finds_its_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"--ckpt_path={run}/checkpoints/last.ckpt", "--trainer.enable_progress_bar=false"]
    assert main(["validate", *arguments]) == 0
    assert "val/f1" in capsys.readouterr().out


def test_a_moved_run_still_works(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "config.yaml").write_text((run / "config.yaml").read_text())
    (moved / "checkpoints").symlink_to(run / "checkpoints")
    assert main(["test", f"--run={moved}", "--trainer.enable_progress_bar=false"]) == 0
    assert (moved / "test" / "test.json").is_file()


def test_a_model_that_does_not_fit_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", f"--run={run}", "--model.fusion.init_args.dim=32"]) == 2
    assert "does not fit the configured model" in capsys.readouterr().err


def test_resuming_refuses_what_it_would_ignore(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", f"--run={run}", "--model.lr=0.5"]) == 2
    assert "model.lr=0.5 would be ignored" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"junk", None, {"a": 1}, [1, 2]])
def test_what_is_no_checkpoint_is_refused(
    run: Path, content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.ckpt"
    if content is None:
        path.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes()[:100_000])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    for option in ("--ckpt_path", "--weights"):
        assert "no checkpoint of abaw" in told_in_one_line(
            ["test", f"--run={run}", f"{option}={path}"], capsys
        )


def test_scoring_needs_something_trained(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing trained" in told_in_one_line(["test", f"--config={run}/config.yaml"], capsys)
    assert "nothing trained" in told_in_one_line(["validate", f"--run={run}", "--ckpt_path=null"], capsys)


def test_weights_and_a_checkpoint_exclude_each_other(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = run / "checkpoints" / "best.ckpt"
    arguments = ["validate", f"--config={run}/config.yaml", f"--weights={best}", f"--ckpt_path={best}"]
    assert "give one" in told_in_one_line(arguments, capsys)


def test_weights_count_beside_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    for value in checkpoint["state_dict"].values():
        value.zero_()
    torch.save(checkpoint, tmp_path / "zero.ckpt")
    assert main(["validate", f"--run={run}", f"--weights={tmp_path}/zero.ckpt"]) == 0
    with_weights = capsys.readouterr().out
    assert main(["validate", f"--run={run}"]) == 0
    loss = [
        next(x for x in out.splitlines() if "val/loss" in x)
        for out in (with_weights, capsys.readouterr().out)
    ]
    assert loss[0] != loss[1]


def test_broken_weights_are_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    for value in checkpoint["state_dict"].values():
        value.fill_(float("nan"))
    torch.save(checkpoint, tmp_path / "nan.ckpt")
    with pytest.warns(UserWarning, match="finite"):
        error = told_in_one_line(["validate", f"--run={run}", f"--weights={tmp_path}/nan.ckpt"], capsys)
    assert "no finite score" in error


def test_classes_in_another_order_are_refused(
    run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(corpus, root)
    for path in root.rglob("*_Set/*.txt"):
        path.write_text(path.read_text().replace("Anger,Disgust", "Disgust,Anger", 1))
    error = told_in_one_line(["test", f"--run={run}", f"--data.root={root}"], capsys)
    assert "Neutral,Anger,Disgust" in error
    assert "Neutral,Disgust,Anger" in error


def test_a_run_folder_that_cannot_be_is_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    error = told_in_one_line(fit_arguments(corpus, tmp_path / "file" / "run"), capsys)
    assert str(tmp_path / "file") in error


def test_class_weights_of_another_number_are_refused(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*fit_arguments(corpus, Path("run")), "--model.loss.init_args.alpha=[1, 2]"]
    assert "was made for 2 classes, but there are 8" in told_in_one_line(arguments, capsys)


def test_resuming_goes_on_where_it_ended(run: Path, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert main(fit_arguments(corpus, folder)) == 0
    before = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert (
        main(["fit", f"--run={folder}", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false"]) == 0
    )
    after = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert after["epoch"] == before["epoch"] + 1
    assert after["global_step"] == 2 * before["global_step"]


def test_a_second_run_in_the_same_folder_works(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for seed in ("1", "2"):
        assert main([*fit_arguments(corpus, folder), f"--seed_everything={seed}"]) == 0
        assert yaml.safe_load((folder / "config.yaml").read_text())["seed_everything"] == int(seed)
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_weights_start_warm(run: Path, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "warm"
    weights = run / "checkpoints" / "best.ckpt"
    arguments = [f"--weights={weights}", "--model.lr=0", "--model.weight_decay=0"]
    assert main([*fit_arguments(corpus, folder), *arguments]) == 0
    first = torch.load(weights, weights_only=True)["state_dict"]
    second = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in first.items():
        if name.startswith(("visual_encoder", "audio_encoder", "fusion")):
            torch.testing.assert_close(second[name], value)


def test_callbacks_of_the_user_do_not_remove_the_engine(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    callback = "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor"
    assert main([*fit_arguments(corpus, folder), callback, "--trainer.log_every_n_steps=1"]) == 0
    header = (folder / "logs" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    assert "val/f1" in header.split(",")
    assert any(name.startswith("lr-") for name in header.split(","))


@pytest.mark.slow
def test_a_terminated_job_leaves_a_checkpoint_to_resume_from(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--trainer.max_epochs=1000", "--data.num_workers=2"]
    command = [sys.executable, "-m", "abaw", *fit_arguments(corpus, folder), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    last = folder / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGTERM)  # as clusters do: the loaders' processes too
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "Traceback" not in output
    interrupted = torch.load(last, weights_only=True)
    more = [f"--trainer.max_epochs={interrupted['epoch'] + 2}", "--data.num_workers=0"]
    assert main(["fit", f"--run={folder}", *more]) == 0
    assert torch.load(last, weights_only=True)["global_step"] > interrupted["global_step"]
