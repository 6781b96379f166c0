"""The LightningModule: encoders, modality dropout, fusion, loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BaseFinetuning
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss
from torch.utils._pytree import tree_leaves
from torchmetrics import MeanMetric
from typing_extensions import Self

from abaw.checkpoint_file import DATA_STATE, INSTANTIATOR, check_hyper_parameters, data_state
from abaw.data.batch import Batch, on_host
from abaw.encoders import AudioEncoder, VisualEncoder
from abaw.encoders.kept import ENCODERS, encoders_of
from abaw.encoding import Features, drop, encode_audio, encode_video
from abaw.errors import InputError
from abaw.fusion import FusionHead, ModalityDropout
from abaw.generators import restore, states_of_ranks
from abaw.labels import EXPRESSIONS, IGNORE_INDEX
from abaw.losses import FocalLoss, FrameLoss, TorchLoss
from abaw.metrics import ExpressionMetrics
from abaw.optimization import (
    GroupMean,
    Schedule,
    count_steps,
    divisor,
    parameter_groups,
    warmup_cosine,
)
from abaw.ranges import MOST_RATE, check_number
from abaw.recorded import Recorded
from abaw.sizes import check_sizes
from abaw.trained_on import TRAINED_ON, Seen, seen, tell_of_other_labels, together, videos_of

_ENCODERS: Final = "encoders"


class ExpressionModule(pl.LightningModule):
    """Recognises an expression in every frame, from face and voice, either of which may be missing.

    Training works on windows. Evaluation steps return the *features* of a chunk: whole videos are scored by
    :class:`~abaw.callbacks.SlidingWindowInference`, which runs the fusion head over overlapping windows of
    them.

    The method follows arXiv 2603.08034. The values of modality dropout, focal loss, learning rates and window
    are not published there: the defaults are this library's own.

    Args:
        visual_encoder: Face crops to features; ``None`` for a model that only listens.
        audio_encoder: Sound to features; ``None`` for a model that only looks.
        fusion: Features to logits.
        loss: Logits to a scalar; ``None`` means ``FocalLoss()``. Any of torch's, or any module that takes
            logits and targets, is wrapped in a :class:`~abaw.losses.TorchLoss`.
        modality_dropout: Drops a modality of a sample while training; ``None`` for none.
        lr: Peak learning rate of AdamW. Lightning's ``LearningRateFinder`` and ``Tuner.lr_find`` set it.
        encoder_lr: Peak learning rate of the encoders' trainable parameters; ``None`` means ``lr``. The
            finder tries each rate on all parameters alike, and leaves this one as it is.
        weight_decay: AdamW's decay, applied to matrices alone: norms and biases are spared.
        warmup: Share of the training steps over which the learning rate rises linearly; it then falls to 0
            along half a cosine.
        class_names: Names of the C classes, for the logs; the command line takes them from the annotations.

    Attributes:
        trained_on: The videos that the weights have learned from, earlier runs' included; checkpoints keep
            it, and `SlidingWindowInference` scores none of them.
        encoders_trained_on: Those of them that the encoders have learned from.

    Raises:
        ValueError: If both encoders are missing, or the head was made for other sizes than the encoders give.
    """

    def __init__(
        self,
        visual_encoder: VisualEncoder | None,
        audio_encoder: AudioEncoder | None,
        fusion: FusionHead,
        loss: FrameLoss | _Loss | None = None,
        modality_dropout: ModalityDropout | None = None,
        lr: float = 3e-4,
        encoder_lr: float | None = None,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        class_names: Sequence[str] = EXPRESSIONS,
    ) -> None:
        super().__init__()
        if visual_encoder is None and audio_encoder is None:
            raise ValueError("a model needs a visual_encoder or an audio_encoder; both are null")
        check_number(0, 1, warmup=warmup)
        check_number(0, MOST_RATE, lr=lr, encoder_lr=encoder_lr, weight_decay=weight_decay)
        self.visual_encoder = visual_encoder
        self.audio_encoder = audio_encoder
        self.fusion = fusion
        loss = FocalLoss() if loss is None else loss
        self.loss = loss if isinstance(loss, FrameLoss) else TorchLoss(loss)
        self.modality_dropout = modality_dropout
        self.lr = lr
        self.encoder_lr = encoder_lr
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.class_names = list(class_names)
        check_sizes(self.fusion, self.loss, self.class_names, self.visual_encoder, self.audio_encoder)
        self.train_loss = MeanMetric()
        self.train_metrics = ExpressionMetrics(self.class_names, prefix="train/")
        self._batch_weight: Tensor | None = None
        self._group = GroupMean()
        self._is_trained = False
        self._steps = 0
        self._loaders: list[dict[str, Any]] = []
        self._generators: list[dict[str, Tensor]] | None = None
        self.trained_on: Seen = {}
        self.encoders_trained_on: Seen = {}
        self._copies: torch.cuda.Stream | None = None
        self._checked: set[str] = set()
        self._calmed: set[str] = set()
        self._save_slots()

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        trust: Sequence[str] = (),
        **kwargs: Any,
    ) -> Self:
        """Make the module of a checkpoint, as Lightning does, without running a stranger's code.

        Args:
            checkpoint_path: The file.
            map_location: Where its tensors go.
            hparams_file: A file to take the hyper-parameters from instead.
            strict: Whether the weights must be exactly the module's.
            weights_only: Whether the file may hold plain data and tensors alone, which is the default.
            trust: Packages whose classes the file may name, beside abaw's and Lightning's.
            **kwargs: Hyper-parameters to override.

        Raises:
            InputError: If the file names classes of another package.
        """
        checkpoint = check_hyper_parameters(checkpoint_path, hparams_file, weights_only, trust)
        with encoders_of(checkpoint):
            module: Self = super().load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
            )
        return module

    @property
    def backbone(self) -> nn.ModuleList:
        """The encoders, as Lightning's ``BackboneFinetuning`` looks for them."""
        return nn.ModuleList(e for e in (self.visual_encoder, self.audio_encoder) if e is not None)

    def encode(self, batch: Batch) -> Features:
        """Run both encoders on a batch of windows or chunks."""
        visual, video_mask = encode_video(batch, self.visual_encoder, self._checked)
        audio, audio_mask = encode_audio(batch, self.audio_encoder, self._checked)
        return Features(visual=visual, audio=audio, video_mask=video_mask, audio_mask=audio_mask)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, T, C) of a batch of windows."""
        features = self.encode(batch)
        if self.modality_dropout is not None:
            features = drop(features, self.modality_dropout)
        logits: Tensor = self.fusion(**features, time=batch["time"], frame_mask=batch["frame"] >= 0)
        return logits

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch to a GPU on a stream of its own, while the last batch is still being computed."""
        moved: Batch
        if device.type == "cuda":
            moved = self._copy_beside(batch, device, dataloader_idx)
        else:
            moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        if device.type != "cpu":
            moved["on_host"] = on_host(batch)
        return moved

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_copies": None}  # a stream belongs to its process

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what encoders have read from files, and the states of the data module and of all generators.

        Both kinds of dropout draw from these, on each rank from its own.
        """
        slots = {"visual_encoder": self.visual_encoder, "audio_encoder": self.audio_encoder}
        checkpoint[ENCODERS] = {name: e.architecture() for name, e in slots.items() if e is not None}
        checkpoint["generators"] = states_of_ranks(self.device, self.trainer.world_size)
        checkpoint[TRAINED_ON] = {"model": self.trained_on, "encoders": self.encoders_trained_on}
        if (data := _data_of(self.trainer)) is not None and (state := data.state_dict()):
            checkpoint[DATA_STATE] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the generators' states, for when training goes on, and hand the data its own."""
        self._generators = checkpoint.get("generators")
        self.remember(checkpoint)
        fit_loop = checkpoint.get("loops", {}).get("fit_loop", {})
        self._loaders = fit_loop.get("state_dict", {}).get("combined_loader", [])
        data, state = _data_of(self._trainer), data_state(checkpoint)
        if data is None or type(data).__qualname__ in checkpoint:  # Lightning loads that of the same class
            return
        if state and data.state_dict().keys() == state.keys():
            data.load_state_dict(state)

    def remember(self, checkpoint: Mapping[str, Any]) -> None:
        """Take from a checkpoint which videos its weights have learned from."""
        record = checkpoint.get(TRAINED_ON, {})
        self.trained_on, self.encoders_trained_on = record.get("model", {}), record.get("encoders", {})

    def on_train_start(self) -> None:
        """Go on reading and drawing where the checkpoint stood; else let each rank draw for itself."""
        # Lightning forgets to where the number of steps was asked for: its loader was made before, by that.
        loaders = tree_leaves(self.trainer.train_dataloader)
        stateful = [loader for loader in loaders if hasattr(loader, "load_state_dict")]
        for loader, state in zip(stateful, self._loaders, strict=False):
            loader.load_state_dict(state)
        self._loaders = []
        self._set_rates()  # by the number of steps that there are to be now
        tell_of_other_labels(videos_of(loaders), self.trained_on if self.trainer.global_step else {})
        self._record_training()
        if self._generators is None or len(self._generators) != self.trainer.world_size:
            if self.trainer.world_size > 1:
                torch.manual_seed(torch.initial_seed() + self.global_rank)
            return
        restore(self._generators[self.global_rank], self.device)

    def on_train_epoch_start(self) -> None:
        """Keep a frozen encoder in evaluation mode: neither its features nor its statistics are to drift.

        One that a callback has thawed goes back to training mode.
        """
        for slot, encoder in (("visual", self.visual_encoder), ("audio", self.audio_encoder)):
            if encoder is None:
                continue
            trains = [p.requires_grad for p in encoder.parameters()]
            if trains and not any(trains) and encoder.training:
                encoder.eval()
                self._calmed.add(slot)
            elif any(trains) and slot in self._calmed:
                encoder.train()
                self._calmed.remove(slot)
        self._record_training()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch, normalised by the weight of the annotated frames over all ranks."""
        logits = self(batch)
        total, weight = self.loss.sum_and_weight(logits, batch["target"])
        # DDP averages gradients over ranks. A rank's mean would weigh its few annotated frames as much as
        # another's many: divide by what all ranks hold together, and multiply the average back into a sum.
        everywhere = self.trainer.strategy.reduce(weight.detach().clone(), reduce_op="sum")
        assert isinstance(everywhere, Tensor)
        loss = total * self.trainer.world_size / divisor(everywhere)
        self._batch_weight = everywhere
        self._is_trained = True

        if weight > 0:
            self.train_loss.update(total.detach() / weight, weight)
        self.train_metrics.update(logits.detach(), _likeliest(batch["target"]))
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        """Begin a group of batches whose gradients are accumulated."""
        self._group.begin()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Accumulate gradients as if the batches of a group were one, see `abaw.optimization.GroupMean`."""
        weight, self._batch_weight = self._batch_weight, None
        batches = self.trainer.accumulate_grad_batches
        if weight is not None and batches > 1:
            loss = self._group.add(loss, weight, batches, self.parameters())
        super().backward(loss, *args, **kwargs)

    def on_train_epoch_end(self) -> None:
        """Log what the training windows scored, if there were any since the training went on."""
        if not self._is_trained:
            return
        self._is_trained = False
        self.log_dict(self.train_metrics.compute())
        self.train_metrics.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> Features:
        """Features of a chunk, for the callback that scores whole videos."""
        return self.encode(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Features:
        """Features of a chunk, for the callback that scores whole videos."""
        return self.encode(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Features:
        """Features of a chunk, for the callback that scores whole videos."""
        return self.encode(batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW without decay on norms and biases; linear warm-up, then half a cosine."""
        encoders = [encoder for encoder in (self.visual_encoder, self.audio_encoder) if encoder is not None]
        groups = [
            *parameter_groups(_ENCODERS, encoders, self._rate_of(_ENCODERS)),
            *parameter_groups("fusion", [self.fusion, self.loss], self.lr),
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        self._steps = count_steps(self.trainer)
        scheduler = Schedule(
            optimizer, lambda step: warmup_cosine(step, int(self.warmup * self._steps), self._steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Train with what Lightning's finders have found since the schedule was made.

        They set ``lr`` and the batch size; the schedule would fall back to what it was made with.
        """
        finetuned = any(isinstance(c, BaseFinetuning) for c in self.trainer.callbacks)  # type: ignore[attr-defined]
        if finetuned and self.trainer.world_size > 1:
            raise InputError(
                "what a finetuning callback unfreezes is not synchronised over several processes: train with "
                "--trainer.devices 1, or with encoder_lr instead"
            )
        self._steps = count_steps(self.trainer)
        self._set_rates()

    def _set_rates(self) -> None:
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, Schedule):  # neither a subclass's nor a callback's own
                groups = config.scheduler.optimizer.param_groups
                config.scheduler.set_rates([self._rate_of(g["name"]) for g in groups if "name" in g])

    def _rate_of(self, group: str) -> float:
        if group.startswith(_ENCODERS) and self.encoder_lr is not None:
            return self.encoder_lr
        return self.lr

    def _record_training(self) -> None:
        """Add what is trained on now to what the weights, and those of the encoders, have learned from."""
        videos = seen(videos_of(self.trainer.train_dataloader))
        # Where the data is features, these know what their encoders have learned from.
        earlier: Seen = getattr(_data_of(self.trainer), "encoders_trained_on", {})
        self.trained_on = together(self.trained_on, earlier, videos)
        encoders = [e for e in (self.visual_encoder, self.audio_encoder) if e is not None]
        train = any(p.requires_grad for encoder in encoders for p in encoder.parameters())
        self.encoders_trained_on = together(self.encoders_trained_on, earlier, videos if train else {})

    def _copy_beside(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        current = torch.cuda.current_stream(device)
        self._copies = self._copies or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._copies):
            moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        current.wait_stream(self._copies)
        for value in moved.values():
            if isinstance(value, Tensor):
                value.record_stream(current)  # its memory is not to be given away before it was read
        return moved

    def _save_slots(self) -> None:
        slots: dict[str, Recorded | None] = {
            "visual_encoder": self.visual_encoder,
            "audio_encoder": self.audio_encoder,
            "fusion": self.fusion,
            "loss": self.loss,
            "modality_dropout": self.modality_dropout,
        }
        plain = {
            "lr": self.lr,
            "encoder_lr": self.encoder_lr,
            "weight_decay": self.weight_decay,
            "warmup": self.warmup,
            "class_names": self.class_names,
        }
        try:
            described = {name: None if slot is None else slot.describe() for name, slot in slots.items()}
        except TypeError:
            # A slot was made from live objects. load_from_checkpoint then needs the slots as keyword
            # arguments, as for any LightningModule that is given modules.
            self.save_hyperparameters(plain, logger=False)
        else:
            # Lightning hands such a description to jsonargparse when it loads the checkpoint.
            self.save_hyperparameters({**plain, **described, "_instantiator": INSTANTIATOR}, logger=False)


def _data_of(trainer: pl.Trainer | None) -> pl.LightningDataModule | None:
    return None if trainer is None else trainer.datamodule  # type: ignore[attr-defined]


def _likeliest(target: Tensor) -> Tensor:
    """A class for each frame, (B, T), of targets that may be mixtures."""
    if not target.is_floating_point():
        return target
    return target.argmax(-1).masked_fill(~(target > 0).any(-1), IGNORE_INDEX)
