"""Ending well when a signal asks for it: a training where it can go on, everything else at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from abaw.callbacks.checkpoint import is_accumulating

_ENDING: Final = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))  # Windows has no SIGHUP


class Stopped(SystemExit):
    """Raised where a signal ends the process; ``code`` is 128 and the signal's number, as shells tell it."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise :class:`Stopped`, so that unfinished files are tidied away."""
    before = {signum: signal.getsignal(signum) for signum in _ENDING}
    _handle(_stop_at_once, *_ENDING)
    try:
        yield
    finally:
        for signum, handler in before.items():
            _handle(handler or signal.SIG_DFL, signum)


def exit_status(exit: SystemExit) -> int | None:
    """The status that a command stopped by a signal ends with; None where it was none."""
    if isinstance(exit.__context__, KeyboardInterrupt):  # Lightning makes a 1 of it
        return 128 + signal.SIGINT
    if isinstance(exit, (Stopped, SIGTERMException)):
        return int(exit.code or 128 + signal.SIGTERM)
    return None


class StopOnSignal(Callback):
    """Ends a training after the batch at hand when SIGTERM, SIGHUP or SIGINT (Ctrl-C) comes.

    Accumulated gradients are completed first, and all ranks stop after the same batch, whichever was asked:
    :class:`~abaw.callbacks.RunCheckpoint` saves a state from which training goes on as if it had not stopped.
    Validation within a training is left at its next batch, and begun anew by the training that goes on (with
    several ranks, which share it unevenly, it is finished first). Validation, test and prediction by
    themselves end at once. A second Ctrl-C ends anything at once, without saving; other signals may come as
    often as they like.

    Under Lightning's ``SLURMEnvironment`` with ``auto_requeue``, its signal (SIGUSR1 by default) has the job
    saved after the batch at hand and queued again, by Lightning's own means.
    """

    def __init__(self) -> None:
        self._asked = 0
        self._requeue = 0
        self._stops = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the place of Lightning's handlers, which talk to other ranks whatever those are doing."""
        self._asked, self._requeue, self._stops = 0, 0, False
        _handle(self._note, *_ENDING, signal.SIGINT)
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            assert environment.requeue_signal is not None
            _handle(self._note_requeue, environment.requeue_signal)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree with the other ranks, where a step of the optimizer is complete."""
        if is_accumulating(trainer):
            return
        signals = torch.tensor([self._asked, self._requeue], device=trainer.strategy.root_device)
        if trainer.world_size > 1:
            signals = trainer.strategy.reduce(signals, reduce_op="max")
        self._asked, self._requeue = signals.tolist()
        if self._asked or self._requeue:
            self._stop(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin no validation when asked to stop; by itself, it stops at once."""
        if trainer.state.fn != TrainerFn.FITTING:
            _handle(_stop_at_once, *_ENDING)
        elif self._stops:
            raise SIGTERMException

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Leave a validation, where no other rank would wait."""
        asked = self._asked or self._requeue
        if asked and trainer.world_size == 1 and not is_accumulating(trainer):
            self._stop(trainer)

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing has been trained yet: stop at once."""
        _handle(_stop_at_once, *_ENDING)

    on_test_start = on_predict_start = on_sanity_check_start

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Tell the signal by the exit status."""
        self._stops = True
        if not isinstance(exception, SIGTERMException):
            return
        if self._requeue:
            trainer._signal_connector._slurm_sigusr_handler_fn(self._requeue, None)  # type: ignore[arg-type]
        exception.code = 128 + (self._asked or signal.SIGTERM)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the checkpoint of a job that was queued again: a later job would go on from it."""
        if trainer.is_global_zero:
            for path in Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt"):
                path.unlink()

    def _stop(self, trainer: pl.Trainer) -> None:
        # Lightning's loops look at it where their progress is consistent, and raise SIGTERMException.
        self._stops = trainer._signal_connector.received_sigterm = True

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._asked and signum == signal.SIGINT and not self._stops:
            raise Stopped(signum)
        self._asked = self._asked or signum

    def _note_requeue(self, signum: int, frame: FrameType | None) -> None:
        self._requeue = signum


def _stop_at_once(signum: int, frame: FrameType | None) -> None:
    raise Stopped(signum)


def _handle(handler: Any, *signals: int) -> None:
    """Set a handler of signals, except of those that are ignored, as by ``nohup``."""
    if threading.current_thread() is not threading.main_thread():
        return  # Python lets the main thread alone do it
    for signum in signals:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, handler)
