from pathlib import Path

import pytest
import torch
from test_module import fit, make_batch, make_module
from torch import Tensor, nn
from torch.nn import functional as F

from abaw import ExpressionModule
from abaw.errors import InputError
from abaw.losses import TorchLoss

WEIGHT = [1.0, 2.0, 0.5, 3.0, 1.0, 1.0, 4.0, 1.0]


class MeanMargin(nn.Module):
    """Somebody's loss, which gives one number alone."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.multi_margin_loss(logits, target)


def data(frames: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, frames, 8, dtype=torch.float64, generator=generator)
    return logits, torch.randint(-1, 8, (1, frames), generator=generator)


@pytest.mark.parametrize(
    ("loss", "ignored"),
    [
        (nn.CrossEntropyLoss(), None),
        (nn.CrossEntropyLoss(torch.tensor(WEIGHT).double(), label_smoothing=0.1), None),
        (nn.CrossEntropyLoss(torch.tensor(WEIGHT).double(), ignore_index=3), 3),
        (nn.NLLLoss(torch.tensor(WEIGHT).double()), None),
        (nn.MultiMarginLoss(p=2, weight=torch.tensor(WEIGHT).double()), None),
        (MeanMargin(), None),
    ],
)
def test_split_into_parts_it_is_what_torch_says_of_all_annotated_frames(
    loss: nn.Module, ignored: int | None
) -> None:
    logits, target = data()
    annotated = target >= 0
    expected = loss(logits[annotated], target[annotated])
    wrapped = TorchLoss(loss)
    torch.testing.assert_close(wrapped(logits, target), expected)
    # One part holds no annotated frame; the others hold them unevenly.
    target = torch.cat([target, torch.full((1, 4), -1)], dim=1)
    logits = torch.cat([logits, logits[:, :4]], dim=1)
    parts = [wrapped.sum_and_weight(logits[:, p], target[:, p]) for p in map(slice, (0, 5, 40), (5, 40, 44))]
    total, weight = (torch.stack(values).sum() for values in zip(*parts, strict=True))
    torch.testing.assert_close(total / weight, expected)


def test_mixtures_are_scored_as_torch_does() -> None:
    logits, _ = data()
    mixed = torch.rand(1, 40, 8, dtype=torch.float64).softmax(-1)
    expected = nn.CrossEntropyLoss()(logits[0], mixed[0])
    torch.testing.assert_close(TorchLoss(nn.CrossEntropyLoss())(logits, mixed), expected)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), MeanMargin()])
def test_without_an_annotated_frame_it_is_zero_with_a_gradient(loss: nn.Module) -> None:
    logits = torch.randn(2, 3, 8, requires_grad=True)
    TorchLoss(loss)(logits, torch.full((2, 3), -1)).backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_module_takes_it_and_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    loss = nn.CrossEntropyLoss(torch.tensor(WEIGHT), label_smoothing=0.2)
    module = make_module(loss=loss)
    fit(module, tmp_path).save_checkpoint(tmp_path / "model.ckpt")
    assert loss.reduction == "mean", "the user's own object is left alone"
    loaded = ExpressionModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    batch = make_batch()
    logits = torch.randn(*batch["target"].shape, 8)
    expected = loss(
        logits.flatten(0, 1), batch["target"].flatten().where(batch["target"].flatten() >= 0, -100)
    )
    torch.testing.assert_close(loaded.loss(logits, batch["target"]), expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TorchLoss("CrossEntropy"), "no loss 'CrossEntropy'; there are .*CrossEntropyLoss"),
        (lambda: TorchLoss("CrossEntropyLoss", {"gamma": 2}), "CrossEntropyLoss: .*'gamma'"),
        (lambda: TorchLoss("system"), "no loss 'system'"),
        (lambda: TorchLoss(nn.L1Loss(), {"a": 1}), "made already"),
        (lambda: TorchLoss(nn.BCEWithLogitsLoss())(*data()), "BCEWithLogitsLoss can't score logits"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
