"""Whole-video inference: features of chunks -> overlapping windows -> one vote a frame."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from abaw.callbacks.results import DecidedBy, VideoFeaturesConsumer, VideoScores, VideoScoresConsumer
from abaw.data.batch import Batch
from abaw.engine import VideoAssembler, VideoFeatures, WindowVoter, compile_encoders
from abaw.errors import InputError
from abaw.fusion import FusionHead
from abaw.labels import IGNORE_INDEX
from abaw.metrics import ExpressionMetrics
from abaw.module import ExpressionModule
from abaw.postprocess import Average, Decoder, Postprocessing, Weighting, likeliest
from abaw.trained_on import Seen, check_unseen, together, videos_of

_SHARDED = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)


class SlidingWindowInference(Callback):
    """Scores whole videos in validation, test and prediction, by soft voting over overlapping windows.

    The evaluation loader emits the consecutive chunks of one video at a time, the module's step returns their
    features. This callback keeps a video's features until it is complete (each frame passes the encoders
    once), runs the fusion head over overlapping windows of them, votes, and at the epoch's end logs
    ``val/f1``, ``val/accuracy``, ``val/f1/<class>`` and ``val/loss`` (``test/…`` likewise) over all ranks.
    Callbacks that are a :class:`~abaw.callbacks.VideoScoresConsumer` are handed each video's scores; in
    ``test`` also those that the head gives to the face alone and to the voice alone.

    A video cut short (Lightning's sanity check, ``limit_val_batches``, ``fast_dev_run``) is scored as far as
    it was seen. With ``frame_step`` k, windows take every k-th frame as in training, and each of the k phases
    is scored, so that every frame gets its label.

    Args:
        window: Frames in a window, as in training; the command line takes it from ``data.window``.
        stride: Steps between the starts of windows; ``None`` means half a window.
        frame_step: Frames from one frame of a window to the next; the command line takes it from the data.
        weighting: Weight of a frame by its place in the window, see :class:`~abaw.postprocess.SoftVoting`.
        average: Whether the windows' probabilities or their logits are averaged.
        batch_size: Windows that pass the head at once; no result depends on it.
        compile: Whether the encoders and the head are compiled for evaluation (``torch.compile`` with static
            shapes), which pays on long videos.
        postprocess: The ``postprocess.yaml`` that ``abaw tune`` wrote, by which the labels are decided;
            ``None`` takes the class with the largest score. ``abaw test`` and ``abaw predict`` take that of
            the run's folder if it is there.

    Raises:
        ValueError: If a number is below 1.
        InputError: When evaluation starts, on several ranks of a strategy that shards weights.
    """

    def __init__(
        self,
        window: int = 64,
        stride: int | None = None,
        frame_step: int = 1,
        weighting: Weighting = "uniform",
        average: Average = "probability",
        batch_size: int = 256,
        compile: bool = False,
        postprocess: str | Path | None = None,
    ) -> None:
        self.postprocess = postprocess
        self._postprocessing: Postprocessing | None = None
        self.voter = WindowVoter(window, stride, frame_step, weighting, average, batch_size, compile)
        self._video = VideoAssembler()
        self._metrics: ExpressionMetrics | None = None
        self._trained_on: Seen | None = None
        self._is_checked = False
        self._sums = torch.zeros(4, dtype=torch.float64)

    def vote(self, head: FusionHead, features: VideoFeatures, num_classes: int) -> tuple[Tensor, Tensor]:
        """Run ``head`` over the windows of one video and vote, see :meth:`abaw.engine.WindowVoter.vote`."""
        return self.voter.vote(head, features, num_classes)

    def score(
        self, trainer: pl.Trainer, pl_module: ExpressionModule, video: VideoFeatures, condition: str
    ) -> VideoScores:
        """Vote on one video's features in the trainer's precision, and decide on its labels.

        Args:
            trainer: The trainer, in any stage of evaluation.
            pl_module: Whose fusion head votes.
            video: The features, as they came or changed.
            condition: What was changed, in words.
        """
        # Callback hooks do not run under autocast: enter what the encoders' steps ran under.
        with trainer.precision_plugin.forward_context():
            scores, covered = self.vote(pl_module.fusion, video, len(pl_module.class_names))
        scores, covered = scores.cpu(), covered.cpu()
        video_mask, audio_mask = video.video_mask.cpu(), video.audio_mask.cpu()
        labels, decided_by = self._decide(video.video_id, scores, covered, video_mask | audio_mask)
        return VideoScores(
            video_id=video.video_id,
            condition=condition,
            scores=scores,
            labels=labels,
            covered=covered,
            target=video.target.cpu(),
            video_mask=video_mask,
            audio_mask=audio_mask,
            decided_by=decided_by,
            num_excluded=self.voter.num_excluded,
        )

    def _start(self, trainer: pl.Trainer, pl_module: ExpressionModule) -> None:
        if not isinstance(pl_module, ExpressionModule):
            raise TypeError(
                f"SlidingWindowInference scores an ExpressionModule, not {type(pl_module).__name__}"
            )
        if isinstance(trainer.strategy, _SHARDED) and trainer.world_size > 1:
            raise InputError(
                f"{type(trainer.strategy).__name__} shares out the weights, so that ranks must run in "
                "step; but each scores videos of its own: take --trainer.strategy ddp"
            )
        self._video = VideoAssembler()
        self._metrics = ExpressionMetrics(pl_module.class_names).to(pl_module.device)
        self._sums = torch.zeros(4, dtype=torch.float64)
        self._broadcast_buffers(trainer, False)

    def _check_unseen(self, trainer: pl.Trainer, pl_module: ExpressionModule) -> None:
        loaders = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        if self._is_checked or loaders is None:
            return
        self._is_checked = True  # which videos are scored stays the same
        earlier = pl_module.trained_on if self._trained_on is None else self._trained_on
        features = getattr(trainer.datamodule, "encoders_trained_on", {})  # type: ignore[attr-defined]
        check_unseen(videos_of(loaders), together(earlier, features))

    @staticmethod
    def _broadcast_buffers(trainer: pl.Trainer, on: bool) -> None:
        # Ranks score different numbers of chunks, so no step may wait for another rank. DDP would, since it
        # broadcasts the buffers in every forward pass, evaluation included.
        if isinstance(trainer.model, DistributedDataParallel):
            trainer.model.require_forward_param_sync = on

    def _score(self, trainer: pl.Trainer, pl_module: ExpressionModule, video: VideoFeatures) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, VideoFeaturesConsumer):
                callback.on_video_encoded(trainer, pl_module, video)
        takers = [c for c in trainer.callbacks if isinstance(c, VideoScoresConsumer)]  # type: ignore[attr-defined]
        if trainer.predicting and not takers:
            return
        for number, (condition, given) in enumerate(self._conditions(trainer, pl_module, video).items()):
            result = self.score(trainer, pl_module, given, condition)
            if number == 0:
                self._count(pl_module, result)
            for taker in takers:
                taker.on_video_scored(trainer, pl_module, result)

    @staticmethod
    def _conditions(
        trainer: pl.Trainer, pl_module: ExpressionModule, video: VideoFeatures
    ) -> dict[str, VideoFeatures]:
        if pl_module.audio_encoder is None:
            return {"video only": video}
        if pl_module.visual_encoder is None:
            return {"audio only": video}
        if not trainer.testing:
            return {"audio+video": video}
        return {
            "audio+video": video,
            "video only": video.without_audio(),
            "audio only": video.without_video(),
        }

    def _decide(
        self, video_id: str, scores: Tensor, covered: Tensor, answered: Tensor
    ) -> tuple[Tensor, DecidedBy]:
        """The classes of a video's frames, int64 (N,) on the CPU, and by what they were decided."""
        if self._postprocessing is None or self._postprocessing.decoder_of(video_id) == Decoder():
            return likeliest(scores, covered), "vote"
        _, labels = self._postprocessing(scores, covered, video_id, answered)
        held_out = self._postprocessing.holds_out(video_id)
        return labels, "held-out parameters" if held_out else "final parameters"

    def _count(self, pl_module: ExpressionModule, result: VideoScores) -> None:
        assert self._metrics is not None
        device = pl_module.device
        target = result.target.masked_fill(~result.covered, IGNORE_INDEX).to(device)
        self._metrics.update(result.labels.to(device), target)
        # Log-probabilities are logits of themselves: each frame costs what its vote says, once.
        logits = result.scores.clamp_min(torch.finfo(result.scores.dtype).tiny).log().to(device)
        total, weight = pl_module.loss.sum_and_weight(logits, target)
        annotated = (result.target != IGNORE_INDEX).sum()
        scored = (target != IGNORE_INDEX).sum()
        self._sums += torch.stack([total.cpu(), weight.cpu(), annotated, scored.cpu()]).to(self._sums)

    def _log(self, trainer: pl.Trainer, pl_module: ExpressionModule, stage: str) -> None:
        assert self._metrics is not None
        summed = trainer.strategy.reduce(self._sums.to(pl_module.device), reduce_op="sum")
        assert isinstance(summed, Tensor)
        total, weight, annotated, scored = summed.float().unbind()
        if annotated > 0 and weight == 0:
            raise InputError(
                "the model gives no finite score for any annotated frame: its weights are broken"
            )
        if scored < annotated:
            rank_zero_warn(
                f"{int(annotated - scored)} of {int(annotated)} annotated frames lie in no window, or have "
                f"no finite score, and are left out of {stage}/f1; the stride is {self.voter.stride}, the "
                f"window {self.voter.window}.",
                category=UserWarning,
            )
        values = {name: value.float() for name, value in self._metrics.compute().items()}
        values["loss"] = total / weight.clamp_min(1e-12)
        # Every rank holds the same figures already.
        for name, value in values.items():
            pl_module.log(f"{stage}/{name}", value, prog_bar=name == "f1")

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Read the parameters of the labels, and compile the encoders, each if that was asked for.

        Raises:
            InputError: If the file of the parameters cannot be read, or is for other classes.
        """
        self._trained_on, self._is_checked = None, False
        if self.postprocess is not None:
            self._postprocessing = Postprocessing.read(self.postprocess, pl_module.class_names)
        if self.voter.compile:
            compile_encoders(pl_module)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Remember what the model was trained on before."""
        self._trained_on = getattr(pl_module, "trained_on", {})

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Refuse to score videos that the model was trained on, before time is spent.

        Raises:
            InputError: One is to be scored.
        """
        if isinstance(pl_module, ExpressionModule):
            self._check_unseen(trainer, pl_module)

    on_validation_start = on_test_start = on_train_start

    # Lightning's hooks: every stage takes the same three steps, with a module that `_start` has checked.

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start without a video."""
        self._start(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the chunks' features, and score the video that they complete."""
        for video in self._video.add(outputs, batch):
            self._score(trainer, pl_module, video)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Score what was cut short, and log over all ranks; a prediction has nothing to log."""
        for video in self._video.flush():
            self._score(trainer, pl_module, video)
        self._broadcast_buffers(trainer, True)
        if not trainer.predicting:
            self._log(trainer, pl_module, "test" if trainer.testing else "val")

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
    on_test_epoch_end = on_predict_epoch_end = on_validation_epoch_end
