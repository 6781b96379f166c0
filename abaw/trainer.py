"""Lightning's Trainer, with the commands that are abaw's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar

from abaw.callbacks import (
    FeatureWriter,
    FrameProgressBar,
    PostprocessTuner,
    RobustnessReport,
    SlidingWindowInference,
    TestReport,
    VideoScoresConsumer,
)


class ExpressionTrainer(pl.Trainer):
    """A Trainer whose further methods are commands too: LightningCLI makes a subcommand of each.

    They take ``model`` and ``datamodule`` as ``fit`` and ``predict`` do, and run on any strategy
    that keeps a whole model on each rank.
    """

    def extract(
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule,
        output_dir: str,
        dtype: Literal["float32", "float16"] = "float32",
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Write the features of all videos into a folder, to train on by FeatureDataModule.

        Can be killed at any moment: run again, it goes on where it stopped.

        Args:
            model: Whose encoders are run, an `abaw.ExpressionModule`.
            datamodule: The corpus, an `abaw.data.AffWild2DataModule`.
            output_dir: Where to write.
            dtype: What features are kept in; float16 takes half the space, and keeps three digits.
            ckpt_path: A checkpoint to take the weights from.
            weights_only: As for ``predict``.

        Raises:
            InputError: If the folder holds features of other encoders, weights or settings.
        """
        # Nobody wants scores, so the head is not run.
        ours = [c for c in self.callbacks if not isinstance(c, (VideoScoresConsumer, ProgressBar))]
        if not any(isinstance(callback, SlidingWindowInference) for callback in ours):
            ours.append(SlidingWindowInference())
        if self.progress_bar_callback is not None:
            ours.append(FrameProgressBar())
        with self._calling(*ours, FeatureWriter(output_dir, dtype)):
            self.predict(
                model,
                datamodule=datamodule,
                return_predictions=False,
                ckpt_path=ckpt_path,
                weights_only=weights_only,
            )

    def tune(
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule,
        folds: int = 5,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Fit smoothing, bias and Viterbi decoding on the validation videos, for test and predict to take.

        Prints what each gains on videos that it was not fitted on, and writes postprocess.yaml.

        Args:
            model: Whose scores are decided on, an `abaw.ExpressionModule`.
            datamodule: The corpus.
            folds: Into how many folds the raw videos are put for cross-validation, 3 or more.
            ckpt_path: A checkpoint to take the weights from.
            weights_only: As for ``validate``.

        Raises:
            InputError: If there are fewer raw videos than folds, or the folder cannot be written.
        """
        with self._calling(*self.callbacks, PostprocessTuner(folds)):
            self.validate(
                model,
                datamodule=datamodule,
                verbose=False,
                ckpt_path=ckpt_path,
                weights_only=weights_only,
            )

    def robustness(
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule,
        seed: int = 0,
        output_dir: str | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Score the validation videos with face or sound lost, frozen, zeroed or late.

        Prints macro-F1 under each condition, and writes robustness.json and robustness.png.

        Args:
            model: What is scored, an `abaw.ExpressionModule`.
            datamodule: The corpus.
            seed: Settles which frames are lost.
            output_dir: Where to write; the folder robustness in the run's, if not given.
            ckpt_path: A checkpoint to take the weights from.
            weights_only: As for ``test``.

        Raises:
            InputError: If a score is not finite, or the folder cannot be written.
        """
        ours = [callback for callback in self.callbacks if not isinstance(callback, TestReport)]
        with self._calling(*ours, RobustnessReport(seed, output_dir)):
            self.test(
                model,
                datamodule=datamodule,
                verbose=False,
                ckpt_path=ckpt_path,
                weights_only=weights_only,
            )

    @contextmanager
    def _calling(self, *callbacks: pl.Callback) -> Iterator[None]:
        """Have other callbacks for a while."""
        own: list[pl.Callback] = self.callbacks  # type: ignore[has-type]
        self.callbacks = list(callbacks)
        try:
            yield
        finally:
            self.callbacks = own
