import math

import pytest
import torch
from torch import Tensor, nn
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


def test_probabilities_are_exact_where_bfloat16_is_the_default() -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)  # as Lightning's precision bf16-true does
    try:
        video, _ = ModalityDropout(0.01)(ones(2 * DRAWS, 1), ones(2 * DRAWS, 1))
        spans, _ = ModalityDropout(1.0, span=(0.1, 0.5))(ones(DRAWS, 1000), ones(DRAWS, 1000))
    finally:
        torch.set_default_dtype(torch.float32)
    assert_probable(~video[:, 0], 0.01)
    lengths = (~spans).sum(dim=1)
    assert len(lengths.unique()) == 401
    assert (int(lengths.min()), int(lengths.max())) == (100, 500)


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
    ramped = ModalityDropout(1.0, span=(1.0, 1.0), ramp_steps=1)
    compiled = torch.compile(ramped, fullgraph=True, backend="eager")
    assert compiled(ones(4, 3), ones(4, 3))[0].all()
    assert not compiled(ones(4, 3), ones(4, 3))[0].any()
    with FakeTensorMode():
        ModalityDropout(0.5, 0.5, (0.1, 0.5), ramp_steps=9)(ones(4, 3), ones(4, 3))


def stretches(mask: Tensor) -> list[tuple[int, int]]:
    """First frame and number of the frames that are missing in each row, checked to be consecutive."""
    found = []
    for row in mask.tolist():
        missing = [t for t, there in enumerate(row) if not there]
        assert missing == list(range(missing[0], missing[-1] + 1)) if missing else True
        found.append((missing[0] if missing else 0, len(missing)))
    return found


def test_spans_have_exact_probabilities_lengths_and_places() -> None:
    torch.manual_seed(0)
    video, audio = ModalityDropout(0.6, 0.5, span=(0.4, 0.4))(ones(DRAWS, 5), ones(DRAWS, 5))
    assert_probable(~video.all(dim=1), 0.6 * (1 - 0.5 / 2))
    assert_probable(~audio.all(dim=1), 0.5 * (1 - 0.6 / 2))
    assert (video.all(dim=1) | audio.all(dim=1)).all()
    for mask in (video, audio):
        places = [place for place in stretches(mask) if place[1]]
        assert {length for _, length in places} == {2}
        starts = torch.tensor([start for start, _ in places])
        for start in range(4):
            assert_probable(starts == start, 1 / 4)


def test_spans_lengths_are_drawn_from_their_range() -> None:
    torch.manual_seed(0)
    video, _ = ModalityDropout(1.0, span=(0.25, 1.0))(ones(DRAWS, 100), ones(DRAWS, 100))
    lengths = torch.tensor([length for _, length in stretches(video)])
    assert lengths.min() == 25
    assert lengths.max() == 100
    for bound in (40, 70, 90):
        assert_probable(lengths <= bound, (bound + 0.5 - 25) / 75)


def test_spans_are_at_least_a_frame_and_keep_off_padding() -> None:
    torch.manual_seed(0)
    here = ones(2000, 9)
    here[:, 6:] = False
    video, audio = ModalityDropout(1.0, span=(0.001, 0.001))(here, here)
    assert ((here & ~video).sum(dim=1) == 1).all()
    assert {start for start, _ in stretches(video[:, :6])} == set(range(6))
    assert torch.equal(audio, here)
    # A frame without a face, but with sound, is a frame of the window: the span may fall on it.
    rare = here.clone()
    rare[:, 1:] = False
    video, _ = ModalityDropout(1.0, span=(0.5, 0.5))(rare, here)
    assert_probable(~video[:, 0], 1 / 4)


def test_spans_leave_the_lonely_alone() -> None:
    video, audio = ones(50, 4), torch.zeros(50, 4, dtype=torch.bool)
    for span in ((0.5, 0.5), (1.0, 1.0)):
        kept_video, kept_audio = ModalityDropout(1.0, 1.0, span=span)(video, audio)
        assert kept_video.all()
        assert not kept_audio.any()
        nothing = ModalityDropout(1.0, 1.0, span=span)(audio, audio)
        assert not torch.stack(nothing).any()


def test_ramp_rises_with_the_training_steps_alone() -> None:
    torch.manual_seed(0)
    dropout = ModalityDropout(0.8, 0.4, ramp_steps=4)
    for step in range(7):
        dropout.eval()(ones(1, 1), ones(1, 1))
        video, audio = dropout.train()(ones(DRAWS, 1), ones(DRAWS, 1))
        rise = min(1.0, step / 4)
        assert_probable(~video[:, 0], 0.8 * rise * (1 - 0.4 * rise / 2))
        assert_probable(~audio[:, 0], 0.4 * rise * (1 - 0.8 * rise / 2))


def test_a_ramp_goes_on_where_its_checkpoint_stood() -> None:
    dropout = ModalityDropout(0.9, 0.9, span=(0.1, 0.9), ramp_steps=6)
    for _ in range(3):
        dropout(ones(8, 10), ones(8, 10))
    state, generator = {k: v.clone() for k, v in dropout.state_dict().items()}, torch.get_rng_state()
    expected = [torch.stack(dropout(ones(8, 10), ones(8, 10))) for _ in range(4)]
    resumed = ModalityDropout(0.9, 0.9, span=(0.1, 0.9), ramp_steps=6)
    resumed.load_state_dict(state)
    torch.set_rng_state(generator)
    again = [torch.stack(resumed(ones(8, 10), ones(8, 10))) for _ in range(4)]
    assert torch.equal(torch.stack(expected), torch.stack(again))


def test_weights_load_with_a_ramp_and_without() -> None:
    plain, ramped = nn.Sequential(ModalityDropout()), nn.Sequential(ModalityDropout(ramp_steps=5))
    ramped[0](ones(1, 1), ones(1, 1))
    assert not plain.state_dict()
    plain.load_state_dict(ramped.state_dict())
    ramped.load_state_dict(plain.state_dict())
    assert ramped[0].step == 1


@pytest.mark.parametrize("span", [(0.0, 0.5), (0.6, 0.5), (0.5, 1.1), (math.nan, 0.5)])
def test_refuses_what_is_no_span(span: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="span holds two shares of the window"):
        ModalityDropout(span=span)


def test_refuses_a_negative_ramp() -> None:
    with pytest.raises(ValueError, match="ramp_steps must be at least 0"):
        ModalityDropout(ramp_steps=-1)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=r"p_visual must be (at least 0|at most 1|a finite number)"):
        ModalityDropout(p)
    with pytest.raises(ValueError, match=r"p_audio must be (at least 0|at most 1|a finite number)"):
        ModalityDropout(0.1, p)


def test_says_what_it_is() -> None:
    dropout = ModalityDropout(p_audio=0.2)
    assert repr(dropout) == "ModalityDropout(p_visual=0.1, p_audio=0.2)"
    both = ModalityDropout(span=(0.1, 0.5), ramp_steps=9)
    assert repr(both) == "ModalityDropout(p_visual=0.1, p_audio=0.0, span=(0.1, 0.5), ramp_steps=9)"
    assert dropout.describe()["init_args"] == {"p_audio": 0.2}
