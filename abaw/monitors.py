"""Whether what callbacks wait for is ever logged."""

from collections.abc import Collection
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint

from abaw.callbacks import RunCheckpoint
from abaw.errors import InputError, did_you_mean
from abaw.given import Given
from abaw.metrics import ExpressionMetrics


def check_monitors(callbacks: Collection[pl.Callback], class_names: Collection[str], given: Given) -> None:
    """Refuse, before anything is trained, a ``monitor`` that nothing logs.

    Args:
        callbacks: The Trainer's. Where one is the user's own, nothing is refused: it may log what it likes.
        class_names: The model's classes.
        given: Where the user gave what.

    Raises:
        InputError: If a callback monitors what is never logged; with the names of what is.
    """
    if any(not type(callback).__module__.startswith(("abaw.", "lightning.")) for callback in callbacks):
        return
    measures = ["loss", *ExpressionMetrics(list(class_names)).compute()]
    logged = [f"{stage}/{measure}" for measure in measures for stage in ("val", "train")]
    rates = any(isinstance(callback, LearningRateMonitor) for callback in callbacks)
    for callback in callbacks:
        monitor: Any = getattr(callback, "monitor", None)
        counted = isinstance(callback, ModelCheckpoint) and monitor in ("epoch", "step")
        if monitor is None or monitor in logged or counted or not getattr(callback, "strict", True):
            continue
        if rates and monitor.startswith("lr-"):
            continue
        key = "checkpoint" if isinstance(callback, RunCheckpoint) else "trainer.callbacks"
        there_are = ", ".join(name for name in logged if name.count("/") == 1)
        raise InputError(
            f"{given.place(f'{key}.monitor')}{key}.monitor: {type(callback).__name__} waits for {monitor}, "
            f"which nothing logs: there are {there_are}, and the F1 of each class, as in "
            f"val/f1/{next(iter(class_names))}{did_you_mean(monitor, logged)}"
        )
