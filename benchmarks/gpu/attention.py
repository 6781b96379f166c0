"""Safe cross-attention beside PyTorch's own, and which kernel serves each."""

import attention
from torch.profiler import ProfilerActivity, profile

from gpu.ceilings import copy_rate, matrix_rate
from gpu.device import Step, device
from gpu.report import Goal, Report, Sizes

PEER = "MHA, need_weights=False"
FLASH = "flash without masks"


def kernel(step: Step) -> str:
    """The name of the attention that PyTorch chose."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    prefix = "aten::_scaled_dot_product_"
    names = {event.name() for event in profiler.profiler.kineto_results.events()}
    chosen = sorted(n.removeprefix(prefix) for n in names if n.startswith(prefix) and "backward" not in n)
    return ", ".join(chosen).replace("_attention", "") or "?"


def measure(report: Report, sizes: Sizes) -> None:
    rate, bandwidth = matrix_rate(sizes.small), copy_rate(sizes.small)
    where = device().type
    lengths, dims, rounds = ([16, 32], [64], 3) if sizes.small else ([64, 256, 1024], [256, 512], 10)
    tokens = 512 if sizes.small else attention.TOKENS[where]
    for dim in dims:
        for length in lengths:
            goal = Goal("≤", 1.1, of_limit=True)
            with report.guard(f"T {length}, D {dim}", goal):
                rivals = attention.steps(where, length, dim, tokens)
                rivals = {name: rivals[name] for name in (attention.OURS, PEER, FLASH)}
                taken = attention.seconds(rivals, where, rounds)
                times = {name: float(1000 * taken[name].median()) for name in rivals}
                served = {name: kernel(step) for name, step in rivals.items()}
                # Query, context and what comes back are read, the result and two gradients are written, once.
                moved = 6 * 2 * tokens * dim / bandwidth
                # Four projections and two products of attention, forward once and backward twice.
                floor = 1000 * max(moved, 3 * tokens * (8 * dim**2 + 4 * length * dim) / rate)
                figure = f"T {length}, D {dim}: "
                report.row(
                    figure + attention.OURS,
                    times[attention.OURS],
                    "ms",
                    limit=times[PEER],
                    limit_is=PEER,
                    goal=goal,
                    note=f"{served[attention.OURS]}; {times[attention.OURS] / times[FLASH]:.2f} × {FLASH}",
                )
                for name in (PEER, FLASH):
                    report.row(
                        figure + name, times[name], "ms", limit=floor, limit_is="floor", note=served[name]
                    )
