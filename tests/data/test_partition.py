import functools
import operator

import numpy as np
import pytest

from abaw.data.partition import partition


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 40])
def test_every_thing_is_in_one_part_and_the_parts_are_even(parts: int):
    sizes = np.random.default_rng(0).integers(1, 1000, 30).tolist()
    shares = partition(sizes, parts)
    assert len(shares) == parts
    assert sorted(functools.reduce(operator.iadd, shares, [])) == list(range(30))
    totals = [sum(sizes[i] for i in share) for share in shares]
    # Graham's bound: within 4/3 of what the best partition could reach at least.
    assert max(totals) <= 4 / 3 * max(sum(sizes) / parts, max(sizes))


def test_the_largest_comes_first():
    assert partition([1, 1, 1, 1, 4], 2) == [[4], [0, 1, 2, 3]]


def test_it_depends_on_nothing_but_the_sizes():
    assert partition([5, 5, 5, 5], 2) == partition([5, 5, 5, 5], 2) == [[0, 2], [1, 3]]
