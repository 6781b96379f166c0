import pytest
import torch
from torch import nn

from abaw.encoders import AudioEncoder, PrecomputedEncoder, VisualEncoder


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_features_are_handed_on_as_float32_where_they_are_present(dtype: torch.dtype) -> None:
    features = torch.arange(24.0).view(2, 3, 4).to(dtype) + 1
    features[1, 2] = torch.nan  # absent: whatever is there
    mask = torch.tensor([[True, False, True], [True, True, False]])
    given = PrecomputedEncoder(4)(features, mask)
    assert given.dtype == torch.float32
    assert torch.equal(given[mask], features[mask].float())
    assert not given[~mask].any()


def test_it_fits_both_slots_and_describes_itself() -> None:
    encoder = PrecomputedEncoder(out_features=7)
    assert isinstance(encoder, VisualEncoder)
    assert isinstance(encoder, AudioEncoder)
    assert encoder.out_features == 7
    assert encoder.describe() == {
        "class_path": "abaw.encoders.precomputed.PrecomputedEncoder",
        "init_args": {"out_features": 7},
    }
    assert list(encoder.parameters()) == []


@pytest.mark.parametrize("features", [torch.zeros(2, 3, 5), torch.zeros(2, 4, 4), torch.zeros(2, 3, 4).int()])
def test_other_features_are_refused_in_words(features: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"floating point \(2, 3, 4\)"):
        PrecomputedEncoder(4)(features, torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("size", [None, 0, -3])
def test_a_size_is_needed(size: int | None) -> None:
    with pytest.raises(ValueError, match=r"out_features must be (the features' size|at least 1)"):
        PrecomputedEncoder(size)


def test_weights_of_the_encoder_that_it_stands_for_are_left_out() -> None:
    live = nn.ModuleDict({"encoder": nn.Linear(2, 4), "head": nn.Linear(4, 3)})
    model = nn.ModuleDict({"encoder": PrecomputedEncoder(4), "head": nn.Linear(4, 3)})
    weights = live.state_dict()
    model.load_state_dict(weights)
    assert torch.equal(model["head"].weight, live["head"].weight)
    assert "encoder.weight" in weights, "the given dict is not changed"
    with pytest.raises(RuntimeError, match="tail"):
        model.load_state_dict(weights | {"tail.weight": torch.zeros(1)})
