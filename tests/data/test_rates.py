import math

import numpy as np
import pytest

from abaw.data.rates import (
    check_frame_rate,
    frame_steps,
    median_rate,
    nearest_step,
    rate_of,
    warn_of_other_rates,
)
from abaw.errors import InputError


@pytest.mark.parametrize("wanted", [7.5, 25, 30.0])
@pytest.mark.parametrize("rate", [5, 15, 24, 25, 29.97, 30, 37, 45, 48, 50, 59.94, 60, 75, 120, 240])
def test_the_step_is_that_whose_rate_is_nearest_as_a_ratio(rate: float, wanted: float):
    best = min(range(1, 100), key=lambda step: abs(math.log(rate / step / wanted)))
    assert nearest_step(rate, wanted) == best


def test_rates_of_clocks():
    assert rate_of(3 + np.arange(50) / 30) == pytest.approx(30)
    assert rate_of(np.cumsum(np.tile([0.04, 0.04, 1], 20))) == pytest.approx(25)
    assert math.isnan(rate_of(np.zeros(1)))
    assert math.isnan(rate_of(np.zeros(5)))
    times = [np.arange(9) / 60, np.arange(9) / 25, np.zeros(1)]
    assert frame_steps(times, 1, 30) == [2, 1, 1]
    assert frame_steps(times, 3, None) == [3, 3, 3]
    assert median_rate([25.0, math.nan, 30.0, 60.0]) == 30
    assert median_rate([math.nan]) is None


@pytest.mark.parametrize(
    ("rate", "step", "message"),
    [
        (0, 1, "frame_rate must be at least 0.01, not 0"),
        (math.inf, 1, "frame_rate"),
        (math.nan, 1, "frame_rate"),
        (30, 2, "frame_step is 2: leave"),
    ],
)
def test_a_rate_that_is_none_or_is_contradicted_is_refused(rate: float, step: int, message: str):
    with pytest.raises(InputError, match=message):
        check_frame_rate(rate, step)
    check_frame_rate(None, step)
    check_frame_rate(30, 1)


def test_other_rates_are_told_once_with_their_number_and_the_worst(recwarn: pytest.WarningsRecorder):
    warn_of_other_rates({"a": 24, "b": 30, "c": math.nan}, 25)
    warn_of_other_rates({"a": 60}, None)
    # As containers round them: film and PAL beside NTSC, whole milliseconds.
    rates = {str(i): rate_of(np.round(np.arange(99) * i, 3)) for i in (1001 / 24000, 1 / 24, 1 / 25, 1 / 30)}
    for trained in rates.values():
        warn_of_other_rates(rates, trained)
    assert not recwarn.list
    told = r"2 of 4 videos .* than the 25 .*; d has 60, so that a window spans 0.42 times .*frame_rate to 25"
    with pytest.warns(UserWarning, match=told):
        warn_of_other_rates({"a": 25, "b": 15, "c": 29, "d": 60}, 25)
    with pytest.warns(UserWarning, match=r"e has 5, .* 5 times as long; only training at their rate"):
        warn_of_other_rates({"d": 60, "e": 5}, 25)
