import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scored import Data, Unreached, run_stage
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from torch import distributed, multiprocessing

from abaw.callbacks.report import TestReport as Report
from abaw.callbacks.results import VideoScores
from abaw.errors import InputError
from abaw.metrics import bootstrap_interval

NAMES = ["calm", "glad", "[sad]"]
CONDITIONS = ["audio+video", "video only", "audio only"]


def scored(video_id, condition, seed, frames=40, uncovered=0, last_class=1, decided_by="vote"):
    """A video whose class 2 is predicted, but never annotated; its labels aren't its largest scores."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(-1, last_class + 1, (frames,), generator=generator)
    covered = torch.arange(frames) >= uncovered
    present = torch.ones(frames, dtype=torch.bool)
    scores = torch.rand(frames, 3, generator=generator) * covered[:, None]
    labels = (scores.argmax(-1) + 1) % 3
    return VideoScores(video_id, condition, scores, labels, covered, target, present, present, decided_by)


def run(folder, results, stage="test", report=None, **options):
    run_stage(stage, folder, report or Report(), results, NAMES, **options)


def results(uncovered=0):
    # In no order of name or condition.
    return [
        scored(video, condition, seed=3 * v + c, uncovered=uncovered if video == "b" and not c else 0)
        for v, video in enumerate("gcabfed")
        for c, condition in reversed(list(enumerate(CONDITIONS)))
    ]


def frames_of(some):
    """Target and prediction of the annotated and covered frames."""
    kept = [(r.target >= 0) & r.covered for r in some]
    target = torch.cat([r.target[k] for r, k in zip(some, kept, strict=True)])
    return target, torch.cat([r.labels[k] for r, k in zip(some, kept, strict=True)])


def check_figures(figures, target, preds):
    expected = f1_score(target, preds, labels=range(3), average=None, zero_division=0)
    assert figures["f1"] == pytest.approx(expected.mean())
    assert list(figures["f1_per_class"].values()) == pytest.approx(list(expected))
    assert figures["accuracy"] == pytest.approx(accuracy_score(target, preds))
    assert figures["confusion_matrix"] == confusion_matrix(target, preds, labels=range(3)).tolist()
    assert figures["frames"] == len(target)


def test_all_figures_are_scikit_learn_s(tmp_path, capsys):
    run(tmp_path, results(uncovered=7))
    report = json.loads((tmp_path / "test" / "test.json").read_text())
    assert list(report["results"]) == [*CONDITIONS, "majority"]
    assert (report["class_names"], report["videos"]) == (NAMES, 7)
    for condition in CONDITIONS:
        some = [r for r in results(uncovered=7) if r.condition == condition]
        target, preds = frames_of(some)
        figures = report["results"][condition]
        check_figures(figures, target, preds)
        assert figures["frames_left_out"] == sum(int(((r.target >= 0) & ~r.covered).sum()) for r in some)
        by_name = sorted(some, key=lambda r: r.video_id)
        matrices = np.stack([confusion_matrix(*frames_of([r]), labels=range(3)) for r in by_name])
        assert figures["f1_interval"] == pytest.approx(bootstrap_interval(torch.tensor(matrices)))
    assert report["results"]["audio+video"]["frames_left_out"] > 0

    # Majority of the evaluated frames, as the data module counts no classes.
    target, _ = frames_of([r for r in results(uncovered=7) if r.condition == CONDITIONS[0]])
    majority = int(torch.bincount(target).argmax())
    assert (report["majority_class"], report["majority_of"]) == (NAMES[majority], "evaluated frames")
    check_figures(report["results"]["majority"], target, torch.full_like(target, majority))


def check_rows(printed, report):
    lines = re.sub("\x1b.*?m", "", printed).splitlines()
    for name, figures in report["results"].items():
        low, high = figures["f1_interval"]
        (row,) = [line for line in lines if line.startswith(f"{name} ") and ": " not in line]
        assert row.removeprefix(name).split() == [
            f"{figures['f1']:.3f}",
            f"{low:.3f}–{high:.3f}",
            f"{figures['accuracy']:.3f}",
            *(f"{f1:.2f}" for f1 in figures["f1_per_class"].values()),
        ]


def test_the_table_has_a_row_a_condition_and_its_figures(tmp_path, capsys):
    run(tmp_path, results(uncovered=7))
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "test" / "test.json").read_text())
    check_rows(printed, report)
    assert printed.splitlines()[0].split()[-3:] == NAMES
    left_out = report["results"]["audio+video"]["frames_left_out"]
    words = " ".join(printed.split())
    assert f"audio+video: {left_out} annotated frames left out" in words
    assert "evaluated frames" in words
    assert str(tmp_path / "test") in printed


def test_a_line_says_by_which_parameters_labels_were_decided(tmp_path, capsys):
    run(tmp_path, results())
    assert "postprocess.yaml" not in capsys.readouterr().out
    tuned = [
        scored(video, condition, seed=1, decided_by=f"{kind} parameters")
        for video, kind in [("a", "final"), ("b", "held-out"), ("c", "held-out")]
        for condition in CONDITIONS
    ]
    run(tmp_path, tuned)
    words = " ".join(capsys.readouterr().out.split())
    assert "2 videos by parameters that were fitted without them, 1 by the final ones" in words
    report = json.loads((tmp_path / "test" / "test.json").read_text())
    assert report["decided_by"] == {"final parameters": 1, "held-out parameters": 2}


@pytest.mark.parametrize("width", [20, 54])
def test_no_number_is_lost_on_a_narrow_terminal(tmp_path, capsys, monkeypatch, width):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    run(tmp_path, results())
    printed = capsys.readouterr().out
    check_rows(printed, json.loads((tmp_path / "test" / "test.json").read_text()))
    assert "macro-F1" not in printed, "the headings fold first"


class Counting(Data):
    class_counts = torch.tensor([2, 5, 9])


class Untrained(Data):
    @property
    def class_counts(self):
        raise InputError("no training videos")


def test_the_majority_is_the_training_labels_where_they_are_counted(tmp_path, capsys):
    run(tmp_path, results(), data=Counting())
    report = json.loads((tmp_path / "test" / "test.json").read_text())
    assert (report["majority_class"], report["majority_of"]) == ("[sad]", "training labels")
    assert report["results"]["majority"]["accuracy"] == 0
    run(tmp_path, results(), data=Untrained())
    report = json.loads((tmp_path / "test" / "test.json").read_text())
    assert report["majority_of"] == "evaluated frames"


def test_only_what_was_scored_has_a_row_and_the_first_one_a_picture(tmp_path, capsys):
    run(tmp_path, [scored("v", "audio only", seed=1)], report=Report(tmp_path / "elsewhere"))
    report = json.loads((tmp_path / "elsewhere" / "test.json").read_text())
    assert list(report["results"]) == ["audio only", "majority"]
    picture = cv2.imread(str(tmp_path / "elsewhere" / "confusion_matrix.png"))
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 10
    assert sorted(p.name for p in (tmp_path / "elsewhere").iterdir()) == ["confusion_matrix.png", "test.json"]
    assert not (tmp_path / "test").exists()


def test_a_second_run_starts_from_nothing_and_validation_is_not_counted(tmp_path, capsys):
    report = Report()
    run(tmp_path, [scored("old", "audio+video", seed=1)], report=report)
    run(tmp_path, [scored("validated", "audio+video", seed=2)], stage="validate", report=report)
    assert len(report._counted) == 1, "the test's video alone"
    run(tmp_path, [scored("new", "audio+video", seed=3)], report=report)
    assert json.loads((tmp_path / "test" / "test.json").read_text())["videos"] == 1


def test_nothing_annotated_is_an_error_and_a_fast_dev_run_writes_nothing(tmp_path):
    with pytest.raises(InputError, match="no annotated frame was scored"):
        run(tmp_path / "empty", [])
    with pytest.raises(InputError, match="no annotated frame was scored"):
        run(tmp_path / "bare", [scored("v", "audio+video", seed=1, last_class=-1)])
    run(tmp_path / "fast", results(), fast_dev_run=True)
    assert not (tmp_path / "fast" / "test").exists()


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_tested(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"/file: cannot be written"):
        run(tmp_path, Unreached(), report=Report(tmp_path / "file"))


def report_on_rank(rank, world_size, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    trainer = SimpleNamespace(
        testing=True, fast_dev_run=False, is_global_zero=rank == 0, default_root_dir=folder, datamodule=None
    )
    report, module = Report(), SimpleNamespace(class_names=NAMES)
    # Video "a" on both ranks, as under a sampler that repeats.
    for video in ["abgd", "ceaf"][rank]:
        for result in results(uncovered=7):
            if result.video_id == video:
                report.on_video_scored(trainer, module, result)
    report.on_test_end(trainer, module)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_report_what_one_does(tmp_path, capsys, monkeypatch):
    # The processes import this module by name, however pytest was started.
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    multiprocessing.spawn(report_on_rank, args=(2, str(tmp_path)), nprocs=2)
    run(tmp_path / "one", results(uncovered=7))
    together = (tmp_path / "test" / "test.json").read_text()
    assert together == (tmp_path / "one" / "test" / "test.json").read_text()
