"""The states of the random generators that both kinds of dropout draw from, on each rank its own."""

from collections.abc import Mapping

import torch
from torch import Tensor


def states_of_ranks(device: torch.device, world_size: int) -> list[dict[str, Tensor]]:
    """The states of every rank's generators; all ranks call it together."""
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    states = [own] * world_size
    if torch.distributed.is_initialized():
        torch.distributed.all_gather_object(states, own)
    return states


def restore(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Go on drawing where one rank's generators stood."""
    torch.set_rng_state(states["cpu"].cpu())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
