import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from abaw.postprocess import fit_bias


def macro_f1(logits, target):
    kept = target >= 0
    labels = range(logits.shape[1])
    return f1_score(target[kept], logits[kept].argmax(-1), labels=labels, average="macro", zero_division=0)


def frames(seed, num_frames, num_classes, absent=(), ties=False):
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(num_classes, generator=generator) ** 3 + 0.01
    share[list(absent)] = 0
    target = torch.multinomial(share, num_frames, replacement=True, generator=generator)
    logits = torch.randn(num_frames, num_classes, generator=generator).double() + share.add(0.01).log()
    logits += 1.5 * torch.nn.functional.one_hot(target, num_classes)
    return logits.round(decimals=1) if ties else logits, target


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    num_frames=st.integers(1, 60),
    num_classes=st.integers(2, 4),
    ties=st.booleans(),
)
def test_no_single_bias_could_be_better(seed, num_frames, num_classes, ties):
    logits, target = frames(seed, num_frames, num_classes, ties=ties)
    bias = fit_bias(logits, target)
    reached = macro_f1(logits + bias, target)
    assert reached >= macro_f1(logits, target) - 1e-12
    for label in set(target.tolist()):
        others = (logits + bias).clone()
        others[:, label] = -torch.inf
        threshold = (others.amax(-1) - logits[:, label]).unique()
        between = (threshold[1:] + threshold[:-1]) / 2
        for value in [threshold[0] - 1, *between[threshold.diff() > 1e-6], threshold[-1] + 1]:
            tried = bias.clone()
            tried[label] = value
            assert macro_f1(logits + tried, target) <= reached + 1e-9


def test_rare_classes_are_helped_on_frames_that_were_not_seen():
    logits, target = frames(3, 20_000, 8)
    bias = fit_bias(logits[:10_000], target[:10_000])
    assert (
        macro_f1(logits[10_000:] + bias, target[10_000:]) > macro_f1(logits[10_000:], target[10_000:]) + 0.02
    )


def test_a_class_without_a_frame_keeps_its_bias():
    # Lifting class 0 is all that is needed: had class 2 been lowered instead, it would stand alone.
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 0.0, 1.5]])
    bias = fit_bias(logits, torch.tensor([0, 1, 0]))
    assert bias[1] == bias[2]
    assert bias[0] - bias[2] > 0.5


def test_frames_without_annotation_decide_nothing():
    logits, target = frames(1, 300, 3)
    more = torch.cat([logits, torch.full((50, 3), torch.nan).double()])
    assert fit_bias(more, torch.cat([target, torch.full((50,), -1)])).equal(fit_bias(logits, target))


@pytest.mark.parametrize("target", [torch.tensor([], dtype=torch.int64), torch.tensor([-1, -1])])
def test_nothing_to_learn_from_gives_no_bias(target):
    assert fit_bias(torch.randn(len(target), 3), target).tolist() == [0, 0, 0]


def test_equal_logits_are_not_told_apart():
    # No bias gives these frames different classes: the best is the majority's, for all of them.
    logits, target = torch.zeros(4, 2), torch.tensor([0, 1, 1, 1])
    assert (logits + fit_bias(logits, target)).argmax(-1).tolist() == [1, 1, 1, 1]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="expected logits"):
        fit_bias(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="finite"):
        fit_bias(torch.tensor([[0.0, -torch.inf]]), torch.tensor([0]))
