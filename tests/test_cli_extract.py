"""Features once, through the command line: extracted, trained on, scored; killed at any moment."""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file
from small import QUICKSTART, SMALL, fit_arguments, little_room, told_in_one_line

from abaw import ExpressionModule
from abaw.callbacks import SlidingWindowInference
from abaw.cli import main
from abaw.data import AffWild2DataModule
from abaw.data.features import read_header, read_index

QUIET = "--trainer.enable_progress_bar=false"
CACHED = ["--data=FeatureDataModule"]
PRECOMPUTED = ["--model.visual_encoder=PrecomputedEncoder", "--model.audio_encoder=PrecomputedEncoder"]
ON_FEATURES = [option for option in SMALL if "encoder" not in option and "image_size" not in option]


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, trained once."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(fit_arguments(corpus, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def features(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of its encoders."""
    folder = tmp_path_factory.mktemp("features") / "out"
    assert main(["extract", f"--run={run}", str(folder), QUIET]) == 0
    return folder


@pytest.fixture(scope="module")
def halves(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in half precision."""
    folder = tmp_path_factory.mktemp("features") / "halves"
    assert main(["extract", str(folder), "--dtype=float16", f"--run={run}", QUIET]) == 0
    return folder


def test_everything_is_extracted(run: Path, features: Path) -> None:
    assert len(read_index(features)) == 16
    header = read_header(read_index(features)[0])
    assert header.encoders["visual"]["class_path"].endswith("ConvVisualEncoder")
    assert header.encoders["visual"]["init_args"]["out_features"] == 16
    assert (header.settings["dtype"], header.settings["image_size"]) == ("float32", 32)
    assert not (run / "predictions").exists()


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("features", 1e-5), pytest.param("halves", 1e-3, marks=pytest.mark.slow)],
)
def test_cached_features_give_what_live_encoders_give(
    run: Path, precision: str, tolerance: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(precision)
    dtype = read_header(read_index(folder)[0]).settings["dtype"]
    assert dtype == {"features": "float32", "halves": "float16"}[precision]
    live, cached = tmp_path / "live", tmp_path / "cached"
    where = [*CACHED, f"--data.root={folder}", *PRECOMPUTED]
    for output, options in ((live, []), (cached, where)):
        common = [f"--run={run}", QUIET, *options]
        assert main(["predict", *common, f"--predictions.output_dir={output}"]) == 0
        assert main(["test", *common, f"--report.output_dir={output}"]) == 0
    scores = sorted(path.name for path in (live / "scores").iterdir())
    assert scores == sorted(path.name for path in (cached / "scores").iterdir())
    for name in scores:
        one, other = (load_file(folder / "scores" / name) for folder in (live, cached))
        torch.testing.assert_close(other["scores"], one["scores"], atol=tolerance, rtol=0)
        for mask in ("covered", "video_mask", "audio_mask"):
            assert torch.equal(other[mask], one[mask])
    rows = [(output / "predictions.txt").read_text().splitlines() for output in (live, cached)]
    assert [row.split(",")[0] for row in rows[1]] == [row.split(",")[0] for row in rows[0]]
    if precision == "features":
        results = [json.loads((output / "test.json").read_text())["results"] for output in (live, cached)]
        assert results[1] == results[0]


def test_a_head_is_trained_on_features_by_the_same_commands_and_joins_the_encoders(
    run: Path, features: Path, corpus: Path, tmp_path: Path
) -> None:
    config = yaml.safe_load(QUICKSTART.read_text())
    config["data"] = {
        "class_path": "FeatureDataModule",
        "init_args": {"root": str(features), "window": 16, "num_workers": 0},
    }
    config["model"]["visual_encoder"] = config["model"]["audio_encoder"] = {
        "class_path": "PrecomputedEncoder"
    }
    written = tmp_path / "cached.yaml"
    written.write_text(yaml.safe_dump(config))
    head_run = tmp_path / "run"
    arguments = [f"--config={written}", f"--trainer.default_root_dir={head_run}", *ON_FEATURES]
    assert main(["fit", *arguments]) == 0
    saved = yaml.safe_load((head_run / "config.yaml").read_text())
    assert saved["model"]["visual_encoder"]["init_args"]["out_features"] == 16
    for command in ("validate", "test", "predict"):
        assert main([command, f"--run={head_run}", QUIET]) == 0
    template = next(corpus.glob("*test_set_sample.txt")).read_text().splitlines()
    predictions = (head_run / "predictions" / "predictions.txt").read_text().splitlines()
    assert [row.split(",")[0] for row in predictions] == [row.split(",")[0] for row in template]

    encoders, head = (
        ExpressionModule.load_from_checkpoint(folder / "checkpoints" / "best.ckpt", weights_only=True)
        for folder in (run, head_run)
    )
    joined = ExpressionModule(encoders.visual_encoder, encoders.audio_encoder, head.fusion)
    voting = SlidingWindowInference(window=16, stride=saved["inference"]["stride"])
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[voting])
    reading = read_header(read_index(features)[0]).settings
    same = {name: reading[name] for name in ("window", "image_size", "audio_context")}
    data = AffWild2DataModule(corpus, **same, num_workers=0)
    live = trainer.validate(joined, data, verbose=False)[0]
    told = json.loads((head_run / "test" / "test.json").read_text())["results"]["audio+video"]
    assert live["val/f1"] == pytest.approx(told["f1"], abs=1e-6)


def test_the_quickstart_changes_to_features_by_options_alone(features: Path, tmp_path: Path) -> None:
    where = [*CACHED, f"--data.root={features}", *PRECOMPUTED, f"--trainer.default_root_dir={tmp_path}"]
    assert main(["fit", f"--config={QUICKSTART}", *where, *ON_FEATURES]) == 0
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())["data"]
    assert saved["class_path"] == "abaw.data.FeatureDataModule"
    assert saved["init_args"]["window"] == 32
    assert "augmentation" not in saved["init_args"]


@pytest.mark.slow
def test_features_of_another_encoder_are_refused(
    run: Path, features: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    options = [f"--data.root={corpus}", f"--trainer.default_root_dir={other}", *SMALL, "--seed_everything=1"]
    assert main(["fit", f"--config={QUICKSTART}", *options, "--trainer.limit_train_batches=1"]) == 0
    # Other weights into the same folder,
    line = told_in_one_line(["extract", f"--run={other}", str(features), QUIET], capsys)
    assert f"{features}/" in line
    assert ".safetensors: encoders." in line
    assert ".weights is " in line
    # and a trained head on the features of encoders that it was not trained with.
    cached = [*CACHED, f"--data.root={features}", *PRECOMPUTED]
    line = told_in_one_line(["test", f"--run={other}", QUIET, *cached], capsys)
    assert f"{features}: its visual features were not made by the encoder of the checkpoint" in line
    # A head that was itself trained on features, too.
    head = tmp_path / "head"
    where = [f"--trainer.default_root_dir={head}", *ON_FEATURES]
    assert main(["fit", f"--config={QUICKSTART}", *cached, *where]) == 0
    assert main(["extract", f"--run={other}", str(tmp_path / "out"), QUIET]) == 0
    line = told_in_one_line(["test", f"--run={head}", QUIET, f"--data.root={tmp_path / 'out'}"], capsys)
    assert "as where the model was trained" in line


@pytest.mark.slow
def test_features_of_other_settings_are_refused(
    run: Path, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert main(["extract", f"--run={run}", str(other), "--data.image_size=48", QUIET]) == 0
    # By a model with encoders,
    cached = [*CACHED, *PRECOMPUTED]
    line = told_in_one_line(["test", f"--run={run}", QUIET, *cached, f"--data.root={other}"], capsys)
    assert "settings.image_size is 48, not 32 as where the model was trained" in line
    # and by a head that was trained on features, whether it is loaded whole or for its weights alone.
    head = tmp_path / "head"
    where = [f"--data.root={features}", f"--trainer.default_root_dir={head}", *ON_FEATURES]
    assert main(["fit", f"--config={QUICKSTART}", *cached, *where]) == 0
    for start in (f"--run={head}", f"--weights={head}/checkpoints/last.ckpt"):
        config = [] if start.startswith("--run") else [f"--config={head}/config.yaml"]
        line = told_in_one_line(["test", *config, start, QUIET, f"--data.root={other}"], capsys)
        assert "settings.image_size is 48, not 32" in line
    # Another batch size shows in the last bits: it may be read, but not be mixed in.
    line = told_in_one_line(["extract", f"--run={run}", str(features), "--data.batch_size=3", QUIET], capsys)
    assert "settings.batch_size" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (PRECOMPUTED, "visual_encoder is a PrecomputedEncoder, but AffWild2DataModule serves no features"),
        (
            [*CACHED, *PRECOMPUTED, "--model.audio_encoder.init_args.out_features=7"],
            "audio_encoder.init_args.out_features is 7, but the features in",
        ),
        ([*CACHED, PRECOMPUTED[0]], "the data has no audio: make it a PrecomputedEncoder, or null"),
        ([*CACHED, "--data.image_size=32"], "image_size"),
        (["--data=FeatureData"], "There are AffWild2DataModule, FeatureDataModule"),
    ],
)
def test_what_does_not_fit_is_told(
    options: list[str], words: str, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [*options, f"--data.root={features}", f"--trainer.default_root_dir={tmp_path}"]
    quick = [option for option in ON_FEATURES if "fusion" not in option]
    assert words in told_in_one_line(["fit", f"--config={QUICKSTART}", *where, *quick], capsys)


def test_a_modality_without_features_is_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look = [
        f"--config={QUICKSTART.parent / 'video_only.yaml'}",
        f"--data.root={corpus}",
        "--data.image_size=16",
    ]
    with pytest.warns(UserWarning, match="the weights of the visual encoder are those it starts with"):
        assert main(["extract", *look, str(tmp_path / "out"), QUIET, "--trainer.accelerator=cpu"]) == 0
    where = [
        *CACHED,
        f"--data.root={tmp_path / 'out'}",
        *PRECOMPUTED,
        f"--trainer.default_root_dir={tmp_path}",
    ]
    line = told_in_one_line(["fit", f"--config={QUICKSTART}", *where, *ON_FEATURES], capsys)
    assert "holds no audio features; set model.audio_encoder to null" in line


@pytest.mark.parametrize("command", ["extract", "predict"])
def test_a_full_disk_is_a_line_with_the_files_name(
    run: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    where = {"extract": str(out), "predict": f"--predictions.output_dir={out}"}[command]
    with little_room({"extract": 8192, "predict": 2048}[command]):
        line = told_in_one_line([command, f"--run={run}", where, QUIET], capsys)
    assert re.search(rf"{out}/(scores/)?[^/]*\.safetensors: File too large; make room there, or choose", line)
    assert not list(out.rglob("*.tmp"))


def test_the_folder_has_to_be_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "output_dir" in told_in_one_line(["extract", f"--run={run}"], capsys)


# As many threads as the tests have: sums are rounded differently with another number.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(
    run: Path, features: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "abaw", "extract", f"--run={run}", str(folder), QUIET]
    draw = random.Random(0)
    counts = []
    for goal in sorted(draw.sample(range(16), 3)):
        # At a random moment after so many videos are there, between two or in the middle of one.
        process = subprocess.Popen(
            command, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while len(list(folder.glob("*.safetensors"))) < goal and process.poll() is None:
            assert time.monotonic() < deadline
        time.sleep(draw.random() * 0.02)
        process.kill()
        assert process.wait() in (-9, 0)
        counts.append(len(list(folder.glob("*.safetensors"))))
        whole = digests(features)
        for path in folder.glob("*.safetensors"):
            assert digests(folder)[path.name] == whole[path.name]
    assert counts[0] < 16, "it was killed before its end"
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert subprocess.run(command, env=ONE_THREAD, capture_output=True, check=False).returncode == 0
    assert digests(folder) == digests(features)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


@pytest.mark.slow
def test_several_processes_share_the_videos(run: Path, features: Path, tmp_path: Path) -> None:
    shutil.copy(features / "video23.safetensors", tmp_path)
    options = [f"--run={run}", QUIET, "--trainer.devices=2", "--trainer.strategy=ddp"]
    command = [sys.executable, "-m", "abaw", "extract", *options, str(tmp_path)]
    done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert "15 videos, 1350 frames" in done.stdout
    assert done.stdout.count("frames/s") == 1
    assert digests(tmp_path) == digests(features)
