"""Relative positions of transformers' networks, kept beside their weights.

transformers makes them on the host, some networks in every layer of every call: each time the host would wait
for the device to copy them.
"""

from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn


def keep_positions(model: nn.Module, example: Tensor) -> None:
    """Have BEiT's and WavLM's positions wait on the device.

    Args:
        model: The network.
        example: An input of one sample; pictures are always of its size.
    """
    kept: Any
    for module in model.modules():
        if hasattr(module, "generate_relative_position_index"):
            patch: Any = model.config.patch_size  # type: ignore[union-attr]
            window = (example.shape[2] // patch, example.shape[3] // patch)
            index = module.generate_relative_position_index(window)  # type: ignore[operator]
            module.register_buffer("position_index", index, persistent=False)
            kept = MethodType(generate_relative_position_index, module)
            module.generate_relative_position_index = kept
        if hasattr(module, "rel_attn_embed"):  # WavLM's first layer alone has it
            farthest: Any = module.max_distance
            buckets = module._relative_positions_bucket(torch.arange(-farthest, farthest + 1))  # type: ignore[operator]
            module.register_buffer("position_buckets", buckets, persistent=False)
            kept = MethodType(compute_bias, module)
            module.compute_bias = kept


def generate_relative_position_index(self: nn.Module, window_size: tuple[int, int]) -> Tensor:
    """Take the place of transformers' function of this name: BEiT's indices."""
    return cast(Tensor, self.position_index)


def compute_bias(self: nn.Module, query_length: int, key_length: int) -> Tensor:
    """Take the place of transformers' function of this name: WavLM's bias, (heads, queries, keys).

    Places that are ``max_distance`` apart, or more, have one bucket.
    """
    buckets: Any = self.position_buckets
    queries, keys = (torch.arange(length, device=buckets.device) for length in (query_length, key_length))
    farthest = len(buckets) // 2
    apart = (keys - queries[:, None]).clamp(-farthest, farthest)
    bias: Tensor = self.rel_attn_embed(buckets[apart + farthest])  # type: ignore[operator]
    return bias.permute(2, 0, 1)
