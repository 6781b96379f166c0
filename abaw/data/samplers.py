"""Which sample each process reads and when.

Both samplers are a ``DistributedSampler``, which Lightning leaves alone, and work without
``torch.distributed`` too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch.utils.data import DistributedSampler

from abaw.data.partition import partition

if TYPE_CHECKING:
    from abaw.data.datasets import ChunkDataset, WindowDataset


class WindowSampler(DistributedSampler[Any]):
    """Training windows in random order, each named by (epoch, index).

    The epoch travels with the index because workers that live on never learn of a new epoch otherwise.

    Args:
        dataset: What is sampled.
        seed: Of the order.
        num_replicas: How many processes share the windows; those of ``torch.distributed`` if not said.
        rank: Which of them this is.
    """

    def __init__(
        self,
        dataset: WindowDataset[Any],
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(dataset, *_replicas(num_replicas, rank), shuffle=True, seed=seed)
        self._skipped = 0

    def skip(self, windows: int) -> None:
        """Leave out this process's first windows, the next time that it is iterated over."""
        self._skipped = windows

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first, self._skipped = self._skipped, 0
        return ((self.epoch, index) for index in islice(super().__iter__(), first, None))


class VideoShardSampler(DistributedSampler[Any]):
    """Whole videos, shared out over the processes by length: every frame once, nothing repeated.

    Args:
        dataset: Whose batches are sampled.
        num_replicas: How many processes share the videos; those of ``torch.distributed`` if not said.
        rank: Which of them this is.
    """

    def __init__(
        self, dataset: ChunkDataset[Any], num_replicas: int | None = None, rank: int | None = None
    ) -> None:
        super().__init__(dataset, *_replicas(num_replicas, rank), shuffle=False)
        videos = partition(dataset.num_frames, self.num_replicas)[self.rank]
        self._indices: list[int | None] = [i for video in videos for i in dataset.batches_of(video)]
        # A process without a video must run the loop all the same: the others wait for it at the epoch's end.
        self._indices = self._indices or [None]

    def __iter__(self) -> Iterator[int | None]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def _replicas(num_replicas: int | None, rank: int | None) -> tuple[int, int]:
    running = dist.is_available() and dist.is_initialized()
    if num_replicas is None:
        num_replicas = dist.get_world_size() if running else 1
    if rank is None:
        rank = dist.get_rank() if running else 0
    return num_replicas, rank
