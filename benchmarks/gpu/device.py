"""Clocks and meters that tell the same of a GPU and of a CPU; all that asks CUDA is here."""

import os
import resource
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from statistics import median

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

Step = Callable[[], object]

_WAITS = "called a synchronizing CUDA operation"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(step: Step, budget: float = 1.0, least: int = 3, most: int = 30) -> float:
    """The median time of a step, after two for warming up."""
    for _ in range(2):
        step()
    synchronize()
    taken: list[float] = []
    begin = time.perf_counter()
    while len(taken) < least or (len(taken) < most and time.perf_counter() - begin < budget):
        taken.append(_once(step))
    return median(taken)


def _once(step: Step) -> float:
    if not torch.cuda.is_available():
        begin = time.perf_counter()
        step()
        return time.perf_counter() - begin
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    step()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1000  # milliseconds


def clock() -> float:
    """Seconds of the wall, when all that was asked for is done."""
    synchronize()
    return time.perf_counter()


def restart_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int:
    """The most memory since `restart_peak`: allocated by PyTorch on a GPU, else the process's of its life."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def total_bytes() -> int | None:
    """The card's memory."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory


def flops(step: Step) -> int:
    """Floating-point operations of a step's matrix products and convolutions, two for each multiplication."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def waits(step: Step) -> Counter[str] | None:
    """Where the host waited for the GPU in a step, and how often; None without a GPU."""
    if not torch.cuda.is_available():
        step()
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Counter(
        f"{warning.filename}:{warning.lineno}" for warning in caught if _WAITS in str(warning.message)
    )


class Watch:
    """The share of a stretch of time in which nothing ran, and what ran most; of a CPU, by operators."""

    def __init__(self) -> None:
        on_gpu = torch.cuda.is_available()
        self._type = DeviceType.CUDA if on_gpu else DeviceType.CPU
        self._profile = profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU])

    def __enter__(self) -> "Watch":
        self._profile.__enter__()
        self._begin = clock()
        return self

    def __exit__(self, *exception: object) -> None:
        self._wall = clock() - self._begin
        self._profile.__exit__(None, None, None)
        events = self._profile.profiler.kineto_results.events()
        self._ran = [
            (event.start_ns(), event.start_ns() + event.duration_ns(), event.name())
            for event in events
            # An annotation spans what it annotates, gaps included.
            if event.device_type() == self._type and not event.is_user_annotation()
        ]

    def idle(self) -> float:
        """The share, from 0 to 1.

        Raises:
            RuntimeError: The profiler saw nothing.
        """
        if not self._ran:
            raise RuntimeError("the profiler saw nothing run")
        return max(0.0, 1 - covered((begin, end) for begin, end, _ in self._ran) / (1e9 * self._wall))

    def kernels(self, count: int = 15) -> str:
        """What took most of the time, a line each."""
        taken: Counter[str] = Counter()
        for begin, end, name in self._ran:
            taken[name] += end - begin
        return "\n".join(f"{time / 1e6:10.2f} ms  {name[:150]}" for name, time in taken.most_common(count))


def covered(intervals: Iterable[tuple[int, int]]) -> int:
    """The length of a union of intervals.

    >>> covered([(5, 7), (0, 2), (1, 3)])
    5
    """
    length, until = 0, None
    for begin, end in sorted(intervals):
        start = begin if until is None else max(begin, until)
        length += max(0, end - start)
        until = end if until is None else max(end, until)
    return length


def workers(small: bool) -> int:
    """How many processes read: none where shared memory, which batches travel through, is too small."""
    if small:
        return 1
    try:
        room = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return min(8, os.cpu_count() or 1) if room.f_bavail * room.f_frsize > 2**30 else 0
