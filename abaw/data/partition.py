"""Sharing things of different sizes out evenly."""

from collections.abc import Sequence

import numpy as np


def partition(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Share things out into parts of about the same total size.

    The largest first, each to the part that has the least so far (Graham, *Bounds on Multiprocessing Timing
    Anomalies*, 1969); equals in their own order, so the result depends on the sizes alone.

    Args:
        sizes: The size of each thing.
        parts: How many parts; some stay empty if there are fewer things.

    Returns:
        The indices in each part, ascending.

    >>> partition([3, 9, 5, 4], parts=2)
    [[0, 1], [2, 3]]
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    totals = np.zeros(parts, dtype=np.int64)
    for index in np.argsort(-np.asarray(sizes, dtype=np.int64), kind="stable"):
        smallest = int(totals.argmin())
        shares[smallest].append(int(index))
        totals[smallest] += sizes[index]
    return [sorted(share) for share in shares]
