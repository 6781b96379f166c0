import cmath
import math

import pytest
import torch

from abaw.fusion.position import rotate, sinusoidal_position, time_in_window


def test_is_the_published_encoding_at_thirty_frames_a_second() -> None:
    dim, encoding = 6, sinusoidal_position(torch.arange(50, dtype=torch.float64) / 30, 6)
    for frame in range(50):
        for i in range(dim // 2):
            angle = frame / 10_000 ** (2 * i / dim)
            assert encoding[frame, i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert encoding[frame, dim // 2 + i].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_the_same_moment_is_encoded_alike_at_any_frame_rate() -> None:
    slow, fast = (sinusoidal_position(torch.arange(12 * fps // 12) / fps, 8) for fps in (12, 60))
    torch.testing.assert_close(slow, fast[::5][:12], atol=1e-4, rtol=0)


def test_refuses_an_odd_size() -> None:
    with pytest.raises(ValueError, match="dim must be even"):
        sinusoidal_position(torch.zeros(3), 5)


def test_counts_from_the_first_real_frame() -> None:
    time = torch.tensor([[math.nan, 5.0, 5.1, 5.4], [7.0, 7.1, math.inf, -3.0], [1.0, 2.0, 3.0, 4.0]])
    real = torch.tensor([[False, True, True, True], [True, True, False, False], [False] * 4])
    expected = torch.tensor([[0.0, 0.0, 0.1, 0.4], [0.0, 0.1, 0.0, 0.0], [0.0] * 4])
    torch.testing.assert_close(time_in_window(time, real), expected)


def test_without_times_frames_are_a_thirtieth_of_a_second_apart() -> None:
    real = torch.tensor([[True] * 3, [False, True, True]])
    expected = torch.tensor([[0.0, 1 / 30, 2 / 30], [0.0, 0.0, 1 / 30]])
    torch.testing.assert_close(time_in_window(None, real), expected)


def test_half_times_are_widened_and_doubles_kept() -> None:
    real = torch.ones(1, 4, dtype=torch.bool)
    assert time_in_window(torch.zeros(1, 4, dtype=torch.bfloat16), real).dtype == torch.float32
    assert time_in_window(torch.zeros(1, 4, dtype=torch.float64), real).dtype == torch.float64


def test_rotation_turns_pairs_as_complex_numbers() -> None:
    torch.manual_seed(0)
    time, tokens = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    turned = rotate(tokens, sinusoidal_position(time, 6))
    for frame in range(3):
        for i in range(3):
            pair = complex(tokens[frame, i], tokens[frame, i + 3])
            expected = pair * cmath.exp(1j * 30 * time[frame].item() / 10_000 ** (2 * i / 6))
            assert complex(turned[frame, i], turned[frame, i + 3]) == pytest.approx(expected, abs=1e-12)


def test_rotated_tokens_know_their_distance_alone() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 8, dtype=torch.float64)

    def score(at: float, other: float) -> float:
        times = [torch.tensor([moment], dtype=torch.float64) for moment in (at, other)]
        turned = [rotate(x, sinusoidal_position(t, 8)) for x, t in zip((query, key), times, strict=True)]
        return (turned[0] * turned[1]).sum().item()

    assert score(0.3, 0.1) == pytest.approx(score(5.3, 5.1), abs=1e-12)
    assert abs(score(0.3, 0.1) - score(0.3, 0.2)) > 1e-3


def test_rotation_keeps_the_type_of_tokens() -> None:
    half = rotate(torch.randn(3, 4, dtype=torch.bfloat16), sinusoidal_position(torch.arange(3.0), 4))
    assert half.dtype == torch.bfloat16
