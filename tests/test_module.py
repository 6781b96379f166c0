import copy
import math
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.distributed.utils import _to_kwargs
from torch.utils.data import DataLoader

from abaw import EXPRESSIONS, ExpressionModule
from abaw.callbacks import SlidingWindowInference
from abaw.data.batch import on_host
from abaw.encoders import AudioEncoder, ConvVisualEncoder, LogMelEncoder, VisualEncoder
from abaw.errors import InputError
from abaw.fusion import ConcatFusion, DualBranchTransformer, FusionHead, ModalityDropout
from abaw.losses import FocalLoss
from abaw.optimization import warmup_cosine

B, T, S = 3, 6, 8000


def make_batch(seed: int = 0, batch: int = B) -> dict:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, T, generator=generator) > 0.3
    return {
        "video": torch.randint(0, 256, (batch, T, 3, 32, 32), dtype=torch.uint8, generator=generator)
        * mask[..., None, None, None],
        "video_mask": mask,
        "audio": torch.randn(batch, S, generator=generator) * 0.1,
        "audio_mask": torch.rand(batch, T, generator=generator) > 0.2,
        "time": 0.1 + torch.arange(T).expand(batch, T) / 25,
        "target": torch.randint(-1, 8, (batch, T), generator=generator),
        "frame": torch.arange(T).expand(batch, T).clone(),
        "video_id": ["v"] * batch,
        "audio_start": [0.0] * batch,
        "num_frames": [T] * batch,
    }


def make_module(**changes) -> ExpressionModule:
    torch.manual_seed(0)
    slots = {
        "visual_encoder": ConvVisualEncoder(out_features=16),
        "audio_encoder": LogMelEncoder(out_features=12),
        "fusion": ConcatFusion(16, 12, 8),
        "modality_dropout": ModalityDropout(0.2, 0.2),
    }
    return ExpressionModule(**{**slots, **changes})


class Peeking(FusionHead):
    """Keeps what it was given, and forgets its masks."""

    def __init__(self, visual_dim: int, audio_dim: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(visual_dim + audio_dim, num_classes)
        self.given: dict[str, Tensor] = {}

    def forward(self, visual, audio, video_mask, audio_mask, time=None, frame_mask=None):
        self.given = {"visual": visual, "audio": audio, "video_mask": video_mask, "audio_mask": audio_mask}
        return self.linear(torch.cat([visual, audio], dim=-1))


def fit(module: ExpressionModule, folder: Path, **trainer) -> pl.Trainer:
    options = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(default_root_dir=folder, enable_model_summary=False, **{**options, **trainer})
    trainer.fit(module, make_loader())
    return trainer


def make_loader() -> DataLoader:
    # A generator of its own: a loader otherwise draws from the one that dropout draws from.
    batches = [make_batch(seed) for seed in range(4)]
    return DataLoader(batches, batch_size=None, generator=torch.Generator())


def test_modality_dropout_zeroes_what_it_drops() -> None:
    module = make_module(fusion=Peeking(16, 12, 8), modality_dropout=ModalityDropout(0.0, 1.0)).train()
    batch = make_batch()
    batch["video_mask"][:] = True
    module(batch)
    given = module.fusion.given
    assert not given["audio_mask"].any()
    assert given["audio"].abs().max() == 0
    assert given["visual"].abs().max() > 0
    module.eval()(batch)
    assert module.fusion.given["audio_mask"].any()


@pytest.mark.parametrize(("slot", "dim"), [("visual_encoder", (1, 12)), ("audio_encoder", (16, 1))])
def test_either_encoder_may_be_null(slot: str, dim: tuple[int, int]) -> None:
    module = make_module(**{slot: None, "fusion": DualBranchTransformer(*dim, 8, dim=16)})
    batch = make_batch()
    logits = module(batch)
    assert logits.shape == (B, T, 8)
    features = module.encode(batch)
    mask = "video_mask" if slot == "visual_encoder" else "audio_mask"
    assert not features[mask].any()


def test_a_batch_s_host_part_stays_on_the_host() -> None:
    batch = make_batch()
    moved = make_module().transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved["frame"].device.type == "meta"
    # As DistributedDataParallel does with what it is called with.
    ((sent,),), _ = _to_kwargs((moved,), {}, torch.device("meta"), True)
    part = on_host(sent)
    for name in ("frame", "time", "video_mask"):
        assert torch.equal(getattr(part, name), batch[name])


def test_a_module_can_be_copied_after_a_batch() -> None:
    module = make_module()
    module._copies = open("/dev/null")  # noqa: SIM115  # like a stream, it can't be pickled
    assert copy.deepcopy(module)._copies is None
    module._copies.close()


def test_mixed_targets_train_and_count_as_their_larger_share(tmp_path: Path) -> None:
    class Mixed(pl.Callback):
        """Mixes 0.7 of each label with 0.3 of the next class, as a mixup would."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            one_hot = torch.eye(8)[batch["target"].clamp_min(0)] * (batch["target"] >= 0)[..., None]
            batch["target"] = 0.7 * one_hot + 0.3 * one_hot.roll(1, -1)

    logged = []
    for callbacks in ([Mixed()], []):
        trainer = fit(make_module(loss=FocalLoss(gamma=0)), tmp_path, callbacks=callbacks, max_steps=1)
        logged.append(trainer.callback_metrics)
    mixed, hard = logged
    assert mixed["train/f1"] == hard["train/f1"] > 0
    assert mixed["train/loss"] != hard["train/loss"]


def test_both_encoders_null_is_refused() -> None:
    with pytest.raises(ValueError, match="both are null"):
        make_module(visual_encoder=None, audio_encoder=None)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (
            ConcatFusion(32, 12, 8),
            r"visual_dim=32.*ConvVisualEncoder\(out_features=16\) asks for visual_dim=16",
        ),
        (ConcatFusion(16, 128, 8), r"audio_dim=128.*LogMelEncoder\(out_features=12\)"),
        (ConcatFusion(16, 12, 7), r"num_classes=7, but the 8 class_names"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_words(head: FusionHead, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_module(fusion=head)


def test_warmup_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="warmup"):
        make_module(warmup=3)


def test_training_loss_is_the_mean_over_annotated_frames(tmp_path: Path) -> None:
    module = make_module(fusion=Peeking(16, 12, 8), modality_dropout=None, loss=FocalLoss(gamma=0.0), lr=0.0)
    trainer = fit(module, tmp_path)
    losses, count = 0.0, 0
    module.eval()
    for seed in range(4):
        batch = make_batch(seed)
        logits = module(batch).detach().double().numpy()
        for row in range(B):
            for frame in range(T):
                target = int(batch["target"][row, frame])
                if target >= 0:
                    x = logits[row, frame]
                    losses += math.log(np.exp(x).sum()) - x[target]
                    count += 1
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(losses / count, rel=1e-5)


def test_a_batch_without_annotations_costs_nothing(tmp_path: Path) -> None:
    module = make_module()
    batch = make_batch()
    batch["target"][:] = -1
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False
    )
    before = {name: value.clone() for name, value in module.fusion.named_parameters()}
    module.weight_decay = 0.0
    trainer.fit(module, DataLoader([batch], batch_size=None))
    for name, value in module.fusion.named_parameters():
        torch.testing.assert_close(value, before[name])


def test_decay_spares_norms_and_biases_and_encoders_have_their_rate(tmp_path: Path) -> None:
    module = make_module(lr=1e-3, encoder_lr=1e-5, weight_decay=0.3)
    optimizer = fit(module, tmp_path, max_steps=1).optimizers[0]
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.add(name)
            assert group["weight_decay"] == (0.3 if parameter.ndim > 1 else 0.0), name
            assert group["initial_lr"] == (1e-5 if "encoder" in name else 1e-3), name
    assert seen == set(names.values())


def test_schedule_rises_then_falls_to_zero() -> None:
    factors = [warmup_cosine(step, 10, 100) for step in range(101)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in pairwise(factors[10:]))


def test_endless_training_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trainer\.max_epochs"):
        fit(make_module(), tmp_path, max_epochs=-1)


def test_checkpoint_loads_in_plain_python_without_arguments(tmp_path: Path) -> None:
    module = make_module(loss=FocalLoss(gamma=1.5, alpha=[1.0] * 8), lr=2e-3)
    path = tmp_path / "model.ckpt"
    fit(module, tmp_path).save_checkpoint(path)
    loaded = ExpressionModule.load_from_checkpoint(path, weights_only=True).eval()
    assert (loaded.lr, loaded.loss.gamma, loaded.class_names) == (2e-3, 1.5, list(EXPRESSIONS))
    batch = make_batch()
    torch.testing.assert_close(loaded(batch), module.eval()(batch))


class Wrapped(VisualEncoder):
    """Made from a live module, which no checkpoint can describe."""

    out_features = 16

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, video: Tensor, video_mask: Tensor) -> Tensor:
        return self.net(video, video_mask)


def test_checkpoint_of_live_modules_takes_them_as_arguments(tmp_path: Path) -> None:
    module = make_module(visual_encoder=Wrapped(ConvVisualEncoder(out_features=16)))
    path = tmp_path / "model.ckpt"
    fit(module, tmp_path).save_checkpoint(path)
    slots = {
        "visual_encoder": Wrapped(ConvVisualEncoder(out_features=16)),
        "audio_encoder": LogMelEncoder(out_features=12),
        "fusion": ConcatFusion(16, 12, 8),
    }
    loaded = ExpressionModule.load_from_checkpoint(path, weights_only=True, **slots).eval()
    batch = make_batch()
    torch.testing.assert_close(loaded(batch), module.eval()(batch))


class OneHotAudio(AudioEncoder):
    """Features that grow with the frame's time, so that results say where they come from."""

    out_features = 12

    def forward(self, audio: Tensor, time: Tensor, audio_mask: Tensor) -> Tensor:
        return (torch.sin(torch.arange(12) * time[..., None] * 5)) * audio_mask[..., None]


def test_train_metrics_are_the_challenges(tmp_path: Path) -> None:
    head = ConcatFusion(16, 12, 8, dropout=0.0)
    module = make_module(audio_encoder=OneHotAudio(), fusion=head, modality_dropout=None, lr=0.0)
    trainer = fit(module, tmp_path)
    predictions, targets = [], []
    module.eval()
    for seed in range(4):
        batch = make_batch(seed)
        predictions.append(module(batch).argmax(-1).flatten())
        targets.append(batch["target"].flatten())
    predicted, target = torch.cat(predictions), torch.cat(targets)
    valid = target >= 0
    expected = f1_score(target[valid], predicted[valid], labels=range(8), average="macro", zero_division=0)
    assert float(trainer.callback_metrics["train/f1"]) == pytest.approx(expected, abs=1e-6)


class MeanColour(VisualEncoder):
    """An encoder that computes in the precision of its weights."""

    out_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 16)

    def forward(self, video: Tensor, video_mask: Tensor) -> Tensor:
        colour = video.to(self.linear.weight.dtype).mean(dim=(-1, -2)) / 255
        return self.linear(colour).tanh() * video_mask[..., None]


class StepGradients(pl.Callback):
    """Keeps the gradients that each step of the optimizer took."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def keep(*_: object) -> None:
            named = pl_module.named_parameters()
            self.steps.append({n: p.grad.clone() for n, p in named if p.grad is not None})

        trainer.optimizers[0].register_step_post_hook(keep)


class OnlyScaled(MixedPrecision):
    """Scales losses as float16 needs it, and computes in full precision."""

    def __init__(self) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu"))

    def forward_context(self) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.mark.parametrize(("clip", "scaled"), [(None, False), (0.05, False), (None, True), (0.05, True)])
def test_accumulated_batches_weigh_what_their_annotated_frames_weigh(
    clip: float | None, scaled: bool, tmp_path: Path
) -> None:
    weights = [1.0, 2.0, 3.0, 1.0, 1.0, 5.0, 1.0, 1.0]
    module = make_module(
        visual_encoder=MeanColour(),
        audio_encoder=None,
        fusion=ConcatFusion(16, 1, 8, dropout=0.0),
        modality_dropout=None,
        loss=FocalLoss(gamma=0.0, alpha=weights),
        lr=0.0,
        weight_decay=0.0,
    ).double()
    batches = []
    for seed, annotated in enumerate((18, 1, 0, 5, 2, 0, 3)):
        batch = make_batch(seed)
        kept = torch.arange(B * T) < annotated
        batch["target"] = batch["target"].clamp_min(0).masked_fill(~kept.view(B, T), -1)
        batches.append(batch)
    taken = StepGradients()
    plugins = [OnlyScaled()] if scaled else None
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=2,
        accumulate_grad_batches=3,
        gradient_clip_val=clip,
        plugins=plugins,
        callbacks=[taken],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None, generator=torch.Generator()))

    expected = []
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    for group in (batches[:3], batches[3:6], batches[6:]):
        whole = {k: torch.cat([b[k] for b in group]) for k in group[0] if torch.is_tensor(group[0][k])}
        cost = nn.functional.cross_entropy(
            module(whole).flatten(0, 1),
            whole["target"].flatten(),
            torch.tensor(weights).double(),
            ignore_index=-1,
        )
        gradients = torch.autograd.grad(cost, parameters.values())
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        factor = 1.0 if clip is None else min(1.0, clip / float(norm))
        assert clip is None or factor < 0.5
        expected.append({n: g * factor for n, g in zip(parameters, gradients, strict=True)})
    assert len(taken.steps) == 6
    for step, gradients in zip(taken.steps, expected * 2, strict=True):
        for name, gradient in gradients.items():
            # Clipping adds 1e-6 to the norm.
            torch.testing.assert_close(step[name], gradient, rtol=1e-4 if clip else 1e-6, atol=1e-12)


class Data(pl.LightningDataModule):
    kept = 0

    def train_dataloader(self) -> DataLoader:
        return make_loader()

    def state_dict(self) -> dict[str, int]:
        return {"kept": self.kept}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.kept = state_dict["kept"]


class OtherData(Data):
    pass


def test_a_data_module_s_state_outlives_its_class(tmp_path: Path) -> None:
    options = {"default_root_dir": tmp_path, "max_epochs": 1, "accelerator": "cpu", "logger": False}
    trainer, data = pl.Trainer(**options, enable_checkpointing=False), OtherData()
    data.kept = 7
    trainer.fit(make_module(), datamodule=data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    for kind in (Data, OtherData):
        data = kind()
        pl.Trainer(**options).fit(make_module(), datamodule=data, ckpt_path=tmp_path / "model.ckpt")
        assert data.kept == 7


class SaveAfterFirstEpoch(pl.Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def test_resuming_draws_what_an_uninterrupted_training_would(tmp_path: Path) -> None:
    path = tmp_path / "half.ckpt"
    whole = make_module()
    fit(whole, tmp_path, max_epochs=2, callbacks=[SaveAfterFirstEpoch(path)])
    resumed = make_module()
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=2, accelerator="cpu", logger=False)
    torch.manual_seed(99)
    trainer.fit(resumed, make_loader(), ckpt_path=path)
    for name, value in whole.fusion.named_parameters():
        torch.testing.assert_close(dict(resumed.fusion.named_parameters())[name], value, msg=name)


def test_module_trains_with_inference(tmp_path: Path) -> None:
    module = make_module()
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        callbacks=[SlidingWindowInference(window=T)],
    )
    loader = DataLoader([make_batch(seed, batch=1) for seed in range(4)], batch_size=None)
    trainer.fit(module, loader, loader)
    assert 0 <= float(trainer.callback_metrics["val/f1"]) <= 1
    assert math.isfinite(float(trainer.callback_metrics["val/loss"]))
    assert {f"val/f1/{name}" for name in EXPRESSIONS} <= set(trainer.callback_metrics)


class Normalising(VisualEncoder):
    """A stranger's encoder: batch norm, and a draw if asked for."""

    out_features = 16

    def __init__(self, freeze: bool = False, draw: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.project = nn.Linear(3, 16)
        self.requires_grad_(not freeze)
        self.draw = draw

    def forward(self, video: Tensor, video_mask: Tensor) -> Tensor:
        pixels = self.norm(video.float().mean(dim=(-1, -2)).flatten(0, 1)).unflatten(0, video.shape[:2])
        features = self.project(pixels)
        return (features + torch.randn_like(features) * self.draw) * video_mask[..., None]


def test_a_random_encoder_is_refused_where_it_is_first_evaluated() -> None:
    module = make_module(visual_encoder=Normalising(draw=True))
    module.train().encode(make_batch())  # noise in training is its own affair
    with pytest.raises(InputError, match="Normalising: the same input gives other features"):
        module.eval().encode(make_batch())


def test_an_encoder_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = []
    monkeypatch.setattr("abaw.encoding.check_repeatable", lambda encoder, *_: checks.append(encoder) or True)
    module = make_module().eval()
    for _ in range(2):
        module.encode(make_batch())
    assert checks == [module.visual_encoder, module.audio_encoder]


def test_a_frozen_encoder_does_not_drift_in_training(tmp_path: Path) -> None:
    module = make_module(visual_encoder=Normalising(freeze=True))
    before = {name: value.clone() for name, value in module.visual_encoder.state_dict().items()}
    module.train()
    fit(module, tmp_path)
    for name, value in module.visual_encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_thawed_encoder_trains_again(tmp_path: Path) -> None:
    class Thaw(pl.Callback):
        modes: tuple[bool, ...] = ()

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            pl_module.visual_encoder.requires_grad_(trainer.current_epoch == 1)

        def on_train_batch_start(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
        ) -> None:
            self.modes += (pl_module.visual_encoder.training,)

    module, thaw = make_module(visual_encoder=Normalising(freeze=True)), Thaw()
    fit(module, tmp_path, max_epochs=2, callbacks=[thaw])
    assert set(thaw.modes[: len(thaw.modes) // 2]) == {False}
    assert set(thaw.modes[len(thaw.modes) // 2 :]) == {True}
