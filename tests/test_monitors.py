import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from abaw.callbacks import RunCheckpoint
from abaw.errors import InputError
from abaw.given import Given
from abaw.monitors import check_monitors

CLASSES = ["calm", "glad"]
GIVEN = Given((("own.yaml", {"checkpoint.monitor": 4, "trainer.callbacks.0.init_args.monitor": 9}),))


class Logs(pl.Callback):
    """A callback that may log anything."""


@pytest.mark.parametrize(
    ("callback", "line"),
    [
        (
            RunCheckpoint("val/f2"),
            "own.yaml, line 4: checkpoint.monitor: RunCheckpoint waits for val/f2, which",
        ),
        (
            EarlyStopping("f1"),
            "own.yaml, line 9: trainer.callbacks.monitor: EarlyStopping waits for f1, which",
        ),
        (ModelCheckpoint(monitor="val_loss"), "own.yaml, line 9: trainer.callbacks.monitor: ModelCheckpoint"),
    ],
)
def test_what_nothing_logs_is_waited_for_in_vain(callback: pl.Callback, line: str) -> None:
    with pytest.raises(InputError) as error:
        check_monitors([RunCheckpoint(), callback], CLASSES, GIVEN)
    assert str(error.value).startswith(line)
    assert "val/loss, train/loss, val/f1, train/f1" in str(error.value)
    check_monitors([Logs(), callback], CLASSES, GIVEN)


@pytest.mark.parametrize(
    "callbacks",
    [
        [RunCheckpoint("val/f1/glad"), EarlyStopping("train/loss"), ModelCheckpoint(monitor="step")],
        [EarlyStopping("lr-AdamW"), LearningRateMonitor()],
        [EarlyStopping("val/else", strict=False), ModelCheckpoint()],
    ],
)
def test_what_is_logged_may_be_waited_for(callbacks: list[pl.Callback]) -> None:
    check_monitors(callbacks, CLASSES, GIVEN)
