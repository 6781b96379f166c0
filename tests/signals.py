"""Callbacks that end a command in the middle, by name for the command line."""

import signal

import lightning.pytorch as pl


class SignalAt(pl.Callback):
    """Sends this process a signal at a hook, in a given epoch.

    Args:
        signum: Which signal.
        hook: At which of Lightning's hooks.
        epoch: In which epoch, from 0.
        call: At which of its calls in that epoch, from 1.
        times: How often, at once.
        rank: Which of several processes sends it to itself.
    """

    def __init__(
        self, signum: int, hook: str, epoch: int = 1, call: int = 2, times: int = 1, rank: int = 0
    ) -> None:
        self.signum, self.epoch, self.call, self.times, self.rank = signum, epoch, call, times, rank
        setattr(self, hook, self._send)

    def _send(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.sanity_checking or (trainer.current_epoch, trainer.global_rank) != (self.epoch, self.rank):
            return
        self.call -= 1
        if self.call == 0:
            for _ in range(self.times):
                signal.raise_signal(self.signum)


class Crash(pl.Callback):
    """What is not saved before the second epoch is lost."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("as sudden as a kill")


def signalling(hook: str, signum: int, **settings: int) -> list[str]:
    """Options that have a command send itself a signal."""
    given = {"signum": int(signum), "hook": hook, **settings}
    options = [f"--trainer.callbacks.{name}={value}" for name, value in given.items()]
    return ["--trainer.callbacks+=signals.SignalAt", *options]
