import torch
from hypothesis import given
from hypothesis import strategies as st

from abaw.postprocess.nearest import nearest_present


@given(st.lists(st.booleans(), max_size=30))
def test_nearest_is_the_least_distance_and_the_earlier_of_two(present):
    there = [frame for frame, is_there in enumerate(present) if is_there]
    expected = [
        min(there, key=lambda f: (abs(f - frame), f)) if there else frame for frame in range(len(present))
    ]
    assert nearest_present(torch.tensor(present, dtype=torch.bool)).tolist() == expected
