"""``abaw predict`` with several runs, such as the folds' models: each predicts, their scores are averaged."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import lightning.pytorch as pl

from abaw.callbacks import PredictionWriter
from abaw.files import make_writable
from abaw.postprocess import average_scores, list_scores, save_scores, submit_scores


class Predicted(Protocol):
    """What is left of a command: its Trainer, which has predicted."""

    trainer: pl.Trainer


def predict_average(runs: Sequence[str], output: Path, predict: Callable[[str, Path], Predicted]) -> None:
    """Predict with each run, then write the mean of their scores and the submission made of it.

    What the runs say on their own stays in ``output/run0``, ``output/run1`` and so on; ``output/scores`` and
    ``output/predictions.txt`` are the average's.

    Args:
        runs: The runs' folders.
        output: Where to write; an earlier average there is replaced.
        predict: Predicts with a run into a folder, on as many ranks as the run asks for.

    Raises:
        InputError: If the folder cannot be written, the runs differ in classes, videos or frames, or the
            template lies where the submission would.
    """
    submission, scores = output / "predictions.txt", output / "scores"
    make_writable(scores)
    folders = [output / f"run{number}" for number in range(len(runs))]
    for run, folder in zip(runs, folders, strict=True):
        trainer = predict(run, folder).trainer
    if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
        return
    files = list_scores([folder / "scores" for folder in folders])
    averages = {video: average_scores(paths) for video, paths in files.items()}
    (writer,) = (callback for callback in trainer.callbacks if isinstance(callback, PredictionWriter))  # type: ignore[attr-defined]
    report = submit_scores(submission, writer.template_of(trainer), averages.items())
    for stale in scores.glob("*.safetensors"):
        stale.unlink()
    for video, average in averages.items():
        save_scores(scores / f"{video}.safetensors", average)
    print(f"{report.describe(submission)}\nScores of each video, the mean of {len(runs)} runs: {scores}")
