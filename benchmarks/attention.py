"""Safe cross-attention beside PyTorch's own attention: time and memory of forward and backward, as ratios.

    python benchmarks/attention.py
    python benchmarks/attention.py --lengths 64 --dims 256 --rounds 10

Every rival sees the same tokens, as many of the context as of the query, in heads of 64.
``SafeCrossAttention`` is given both masks; ``nn.MultiheadAttention`` the same context mask as its
``key_padding_mask``, once with ``need_weights=False`` and once as it comes, with weights. The limit is the
flash kernel without any mask. No context is empty: ``nn.MultiheadAttention`` can return NaN then.

The rivals take turns. A time ratio is ours by the rival's in the same round, so that what else the machine
does slows both: the median over the rounds, and its quartiles. Memory is the peak above what is held between
two steps. The CPU computes in float32; a GPU, where there is one, in bfloat16.
"""

import argparse
import time
from collections.abc import Callable

import torch
from machine import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from abaw.fusion import SafeCrossAttention

Step = Callable[[], object]

OURS = "SafeCrossAttention"
HEAD = 64
TOKENS = {"cpu": 2048, "cuda": 262_144}  # of a batch: enough to keep the device busy
WARM_UP = 3
COLUMNS = ("T", "D", "rival", "its ms", "time, ours / its", "quartiles", "its MiB", "memory, ours / its")


def steps(device: str, length: int, dim: int, tokens: int) -> dict[str, Step]:
    """Forward and backward of each rival, on a batch of so many tokens."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    torch.manual_seed(0)
    shape = max(tokens // length, 1), length
    query, context, upstream = torch.randn(3, *shape, dim, device=device, dtype=dtype)
    query_mask, context_mask = torch.rand(2, *shape, device=device) < 0.8
    context_mask[:, 0] = True
    ours = SafeCrossAttention(dim, dim // HEAD).to(device, dtype)
    peer = nn.MultiheadAttention(dim, dim // HEAD, batch_first=True, device=device, dtype=dtype)

    def step(module: nn.Module, forward: Callable[[], Tensor]) -> Step:
        inputs = [query.requires_grad_(), context.requires_grad_(), *module.parameters()]
        return lambda: torch.autograd.grad(forward(), inputs, upstream)

    def masked(need_weights: bool) -> Tensor:
        return peer(query, context, context, key_padding_mask=~context_mask, need_weights=need_weights)[0]

    def flash() -> Tensor:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return peer(query, context, context, need_weights=False)[0]

    return {
        OURS: step(ours, lambda: ours(query, context, query_mask, context_mask)),
        "MHA, need_weights=False": step(peer, lambda: masked(False)),
        "MHA, its default": step(peer, lambda: masked(True)),
        "flash without masks": step(peer, flash),
    }


def seconds(rivals: dict[str, Step], device: str, rounds: int) -> dict[str, Tensor]:
    """What each rival took in each round, (rounds,)."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(WARM_UP + rounds):
        for name in list(rivals)[:: 1 if turn % 2 else -1]:
            synchronize(device)
            begin = time.perf_counter()
            rivals[name]()
            synchronize(device)
            taken[name].append(time.perf_counter() - begin)
    return {name: torch.tensor(values[WARM_UP:]) for name, values in taken.items()}


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak(step: Step, device: str) -> int:
    """The most bytes that a step holds at once, above what was there before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - held
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return int(torch.tensor([event.nbytes() for event in events]).cumsum(0).max())


def measure(device: str, lengths: list[int], dims: list[int], rounds: int) -> Table:
    table = Table(title=f"forward + backward of {TOKENS[device]} tokens, {rounds} rounds\n{machine(device)}")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "rival" else "right")
    for dim in dims:
        for length in lengths:
            rivals = steps(device, length, dim, TOKENS[device])
            taken = seconds(rivals, device, rounds)
            memory = {name: peak(step, device) for name, step in rivals.items()}
            for name in list(rivals)[1:]:
                low, middle, high = (taken[OURS] / taken[name]).quantile(torch.tensor([0.25, 0.5, 0.75]))
                table.add_row(
                    str(length),
                    str(dim),
                    name,
                    f"{1000 * taken[name].median():.2f}",
                    f"{middle:.2f}",
                    f"{low:.2f}–{high:.2f}",
                    f"{memory[name] / 2**20:.1f}",
                    f"{memory[OURS] / memory[name]:.2f}",
                )
            table.add_section()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    available = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 1024], help="tokens of a sample")
    parser.add_argument("--dims", type=int, nargs="+", default=[256, 512], help="size of a token")
    parser.add_argument("--devices", nargs="+", choices=available, default=available)
    parser.add_argument("--rounds", type=int, default=20, help="turns of each rival (default: 20)")
    given = parser.parse_args()
    for device in given.devices:
        Console(width=130).print(measure(device, given.lengths, given.dims, given.rounds))


if __name__ == "__main__":
    main()
