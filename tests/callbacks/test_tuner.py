from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from scored import Data, Unreached, run_stage
from torch import distributed, multiprocessing

from abaw.callbacks import PostprocessTuner, VideoScores
from abaw.errors import InputError
from abaw.postprocess import Postprocessing, count_transitions
from abaw.tuning import ScoredVideo, tune

NAMES = ["calm", "glad", "sad"]
TRAINING = [np.repeat([0, 1, 2, 0], 15), np.repeat([1, -1, 2], 20)]


class Untrained(Data):
    def training_targets(self):
        raise InputError("no training videos")


def scored(video_id, seed):
    """A video with calm stretches of labels and scores that flicker around them."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 3, (5,), generator=generator).repeat_interleave(20)
    logits = 1.5 * torch.nn.functional.one_hot(target, 3) + torch.randn(100, 3, generator=generator)
    present = torch.ones(100, dtype=torch.bool)
    # Labels of another file's parameters: what is fitted are the votes.
    labels = torch.zeros(100, dtype=torch.int64)
    return VideoScores(video_id, "audio+video", logits.softmax(-1), labels, present, target, present, present)


RESULTS = [scored(video, seed) for seed, video in enumerate("dbca")]


def expected(transitions):
    videos = [ScoredVideo(r.video_id, r.scores, r.covered, r.target) for r in RESULTS]
    return tune(videos, NAMES, transitions, folds=3)


def run(folder, results=RESULTS, stage="validate", data=None, **options):
    run_stage(stage, folder, PostprocessTuner(folds=3), results, NAMES, data=data, **options)
    return folder / "postprocess.yaml"


def test_the_file_holds_what_tuning_the_votes_finds(tmp_path, capsys):
    path = run(tmp_path, data=Data(training_targets=lambda: TRAINING))
    tuning = expected(count_transitions(map(torch.from_numpy, TRAINING), 3))
    assert tuning.chosen
    assert Postprocessing.read(path, NAMES) == tuning.postprocessing
    printed = capsys.readouterr().out
    assert tuning.describe() in printed
    assert str(path) in printed
    comment = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ")]
    assert comment == tuning.describe().splitlines()


@pytest.mark.parametrize("data", [None, Untrained()])
def test_without_training_labels_nothing_is_counted(tmp_path, capsys, data):
    path = run(tmp_path, data=data)
    assert Postprocessing.read(path) == expected(None).postprocessing
    assert "no training labels" in capsys.readouterr().out


def test_other_stages_and_a_fast_dev_run_write_nothing(tmp_path):
    assert not run(tmp_path, stage="test").exists()
    assert not run(tmp_path, fast_dev_run=True).exists()
    tuner = PostprocessTuner()
    fitting = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING), validating=True)
    tuner.on_video_scored(fitting, None, RESULTS[0])
    tuner.on_validation_end(fitting, None)


def test_too_few_raw_videos_are_told(tmp_path):
    with pytest.raises(InputError, match="3 annotated raw videos or more, and there are 2"):
        run(tmp_path, RESULTS[:2])
    assert not (tmp_path / "postprocess.yaml").exists()


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_scored(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"/file: cannot be written"):
        run(tmp_path / "file", Unreached())


def tune_on_rank(rank, world_size, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn=TrainerFn.VALIDATING),
        fast_dev_run=False,
        is_global_zero=rank == 0,
        default_root_dir=folder,
        datamodule=SimpleNamespace(training_targets=lambda: TRAINING),
    )
    tuner, module = PostprocessTuner(folds=3), SimpleNamespace(class_names=NAMES)
    tuner.on_validation_start(trainer, module)
    for result in RESULTS[rank::world_size]:
        tuner.on_video_scored(trainer, module, result)
    tuner.on_validation_end(trainer, module)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_tune_as_one_does(tmp_path, capsys, monkeypatch):
    # The processes import this module by name, however pytest was started.
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    multiprocessing.spawn(tune_on_rank, args=(2, str(tmp_path)), nprocs=2)
    alone = run(tmp_path / "one", data=Data(training_targets=lambda: TRAINING))
    assert (tmp_path / "postprocess.yaml").read_text() == alone.read_text()
