import pytest
from hypothesis import given
from hypothesis import strategies as st

from abaw.postprocess import window_starts

sizes = {"num_frames": st.integers(0, 60), "window": st.integers(1, 20), "stride": st.integers(1, 25)}


@given(**sizes)
def test_starts_are_those_of_a_walk_whose_last_step_is_shortened(num_frames, window, stride):
    starts, start = [], 0
    while num_frames:
        if start + window >= num_frames:
            starts.append(max(num_frames - window, 0))
            break
        starts.append(start)
        start += stride
    assert window_starts(num_frames, window, stride).tolist() == starts


@given(**sizes)
def test_every_frame_is_seen_unless_the_stride_is_longer_than_the_window(num_frames, window, stride):
    seen = {
        frame
        for start in window_starts(num_frames, window, stride).tolist()
        for frame in range(start, start + window)
    }
    if stride <= window:
        assert seen >= set(range(num_frames))
    if num_frames >= window:
        assert seen <= set(range(num_frames))


def test_the_dtype_is_int64_with_and_without_frames():
    assert str(window_starts(0, 4, 2).dtype) == str(window_starts(9, 4, 2).dtype) == "torch.int64"


@pytest.mark.parametrize(("num_frames", "window", "stride"), [(-1, 4, 2), (5, 0, 1), (5, 4, 0)])
def test_impossible_sizes_are_refused(num_frames, window, stride):
    with pytest.raises(ValueError, match="must"):
        window_starts(num_frames, window, stride)
