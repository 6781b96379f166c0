import math

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from abaw.fusion import ModalityDropout

DRAWS = 40_000


def ones(*size: int) -> Tensor:
    return torch.ones(*size, dtype=torch.bool)


def assert_probable(hits: Tensor, probability: float) -> None:
    """Within five standard deviations of a binomial draw; exact at 0 and 1."""
    deviation = math.sqrt(probability * (1 - probability) / len(hits))
    assert abs(hits.double().mean().item() - probability) <= 5 * deviation


@pytest.mark.parametrize("p_visual", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("p_audio", [0.0, 0.3, 1.0])
def test_probabilities_are_exact(p_visual: float, p_audio: float) -> None:
    torch.manual_seed(0)
    video, audio = ModalityDropout(p_visual, p_audio)(ones(DRAWS, 3), ones(DRAWS, 3))
    assert torch.equal(video.all(dim=1), video.any(dim=1))
    assert torch.equal(audio.all(dim=1), audio.any(dim=1))
    assert (video | audio).all()
    assert_probable(~video[:, 0], p_visual * (1 - p_audio / 2))
    assert_probable(~audio[:, 0], p_audio * (1 - p_visual / 2))
    assert_probable(video[:, 0] & audio[:, 0], (1 - p_visual) * (1 - p_audio))


def test_samples_are_drawn_on_their_own() -> None:
    torch.manual_seed(0)
    dropout = ModalityDropout(0.5)
    draws = torch.stack([dropout(ones(2, 1), ones(2, 1))[0].flatten() for _ in range(2000)])
    assert_probable(draws[:, 0] & draws[:, 1], 0.25)


def test_never_leaves_nothing_where_there_was_something() -> None:
    generator = torch.Generator().manual_seed(0)
    video, audio = (torch.rand(5000, 4, generator=generator) < 0.2 for _ in range(2))
    # Faces and sound that never meet in a frame.
    video[:500] = torch.tensor([True, True, False, False])
    audio[:500] = ~video[:500]
    for p_visual, p_audio in [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.6, 0.6)]:
        kept_video, kept_audio = ModalityDropout(p_visual, p_audio)(video, audio)
        had = (video | audio).any(dim=1)
        assert torch.equal((kept_video | kept_audio).any(dim=1), had)
        alone = ~(video.any(dim=1) & audio.any(dim=1))
        assert torch.equal(kept_video[alone], video[alone])
        assert torch.equal(kept_audio[alone], audio[alone])
        assert not (kept_video & ~video).any()
        assert not (kept_audio & ~audio).any()


def test_certain_dropout_drops_exactly_one() -> None:
    torch.manual_seed(0)
    video, audio = ModalityDropout(1.0, 1.0)(ones(DRAWS, 1), ones(DRAWS, 1))
    assert (video ^ audio).all()
    assert_probable(video[:, 0], 0.5)


def test_evaluation_and_the_callers_masks_are_left_alone() -> None:
    video, audio = ones(8, 3), ones(8, 3)
    dropout = ModalityDropout(1.0, 1.0)
    dropout(video, audio)
    assert video.all()
    assert audio.all()
    for kept in dropout.eval()(video, audio):
        assert kept.all()


def test_repeats_with_the_generators_state() -> None:
    dropout = ModalityDropout(0.5, 0.5)
    state = torch.get_rng_state()
    first = dropout(ones(64, 1), ones(64, 1))
    second = dropout(ones(64, 1), ones(64, 1))
    torch.set_rng_state(state)
    again = dropout(ones(64, 1), ones(64, 1))
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert not torch.equal(torch.stack(first), torch.stack(second))


def test_compiles_and_never_waits_for_the_device() -> None:
    torch.compiler.reset()
    compiled = torch.compile(ModalityDropout(1.0), fullgraph=True, backend="eager")
    assert not compiled(ones(4, 3), ones(4, 3))[0].any()
    with FakeTensorMode():
        ModalityDropout(0.5, 0.5)(ones(4, 3), ones(4, 3))


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match="p_visual is a probability"):
        ModalityDropout(p)
    with pytest.raises(ValueError, match="p_audio is a probability"):
        ModalityDropout(0.1, p)


def test_says_what_it_is() -> None:
    dropout = ModalityDropout(p_audio=0.2)
    assert repr(dropout) == "ModalityDropout(p_visual=0.1, p_audio=0.2)"
    assert dropout.describe()["init_args"] == {"p_audio": 0.2}
