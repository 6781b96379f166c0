"""``abaw predict`` with several runs, such as the folds' models: each predicts, their scores are averaged."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from abaw.callbacks import PredictionWriter
from abaw.errors import InputError
from abaw.files import make_writable
from abaw.folder_lock import FolderLock
from abaw.postprocess import (
    POSTPROCESS_FILE,
    Postprocessing,
    average_scores,
    list_scores,
    own_scores,
    save_scores,
    submit_scores,
)


class Predicted(Protocol):
    """What is left of a command: its Trainer, which has predicted."""

    trainer: pl.Trainer


def predict_average(
    runs: Sequence[str],
    output: Path,
    predict: Callable[[str, Path], Predicted],
    postprocessing: str | None = None,
) -> None:
    """Predict with each run, then write the mean of their scores and the submission made of it.

    What the runs say on their own stays in ``output/run0``, ``output/run1`` and so on; ``output/scores`` and
    ``output/predictions.txt`` are the average's.

    Args:
        runs: The runs' folders.
        output: Where to write; an earlier average there is replaced.
        predict: Predicts with a run into a folder, on as many ranks as the run asks for.
        postprocessing: The ``postprocess.yaml`` that labels are decided by; ``None`` takes the likeliest
            class.

    Raises:
        InputError: If the folder cannot be written, a run is given twice, the runs differ in classes, videos
            or frames, or the template lies where the submission would.
    """
    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise InputError(f"a run is given twice, and would count twice: {', '.join(runs)}")
    decide = None if postprocessing is None else Postprocessing.read(postprocessing)
    if decide is None and any((Path(run) / POSTPROCESS_FILE).is_file() for run in runs):
        rank_zero_warn(
            f"each run's {POSTPROCESS_FILE} was fitted to its own scores: of their average, the likeliest "
            "class is taken. To decide otherwise, give --inference.postprocess FILE."
        )
    with FolderLock(output) if getattr(rank_zero_only, "rank", 0) == 0 else nullcontext():
        _predict_average(runs, output, predict, decide)


def _predict_average(
    runs: Sequence[str],
    output: Path,
    predict: Callable[[str, Path], Predicted],
    decide: Postprocessing | None,
) -> None:
    submission, scores = output / "predictions.txt", output / "scores"
    make_writable(scores)
    stale = own_scores(scores)
    folders = [output / f"run{number}" for number in range(len(runs))]
    for run, folder in zip(runs, folders, strict=True):
        trainer = predict(run, folder).trainer
    if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
        return
    files = list_scores([folder / "scores" for folder in folders])
    averages = {video: average_scores(paths) for video, paths in files.items()}
    if decide is not None:
        averages = {
            video: replace(
                average, labels=decide(average.scores, average.covered, video, average.answered)[1]
            )
            for video, average in averages.items()
        }
    (writer,) = (callback for callback in trainer.callbacks if isinstance(callback, PredictionWriter))  # type: ignore[attr-defined]
    report = submit_scores(submission, writer.template_of(trainer), averages.items())
    for path in stale:
        path.unlink(missing_ok=True)
    for video, average in averages.items():
        save_scores(scores / f"{video}.safetensors", average)
    print(f"{report.describe(submission)}\nScores of each video, the mean of {len(runs)} runs: {scores}")
