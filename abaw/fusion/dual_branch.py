"""The head of the method: a temporal transformer per modality, fused by safe cross-attention."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from abaw.fusion.base import FusionHead, check_head, zero_absent
from abaw.fusion.layer import SafeTransformerLayer
from abaw.fusion.position import sinusoidal_position, time_in_window
from abaw.ranges import MOST_FEATURES, MOST_LAYERS, check_count, check_weights

Position = Literal["sinusoidal", "rotary"]


class DualBranchTransformer(FusionHead):
    r"""Two temporal transformers, safe cross-attention both ways, and a gate that knows what is present.

    ::

        visual (B, T, Dv)                     audio (B, T, Da)
                |                                     |
             project <-- position, from time --> project
                |                                     |
         temporal layers                       temporal layers        num_layers, over what is present
                |-----------------.  .----------------|
                |                  \/                 |
                |                  /\                 |
                |<----------------'  '--------------->|
       safe cross-attention                  safe cross-attention     without the other: self-attention
                |                                     |
                '-----------> presence gate <---------'               with neither: a learned token
                                    |
                              fused layers                            fused_layers, over real frames
                                    |
                            logits (B, T, C)

    All layers are pre-norm. Each branch attends over the frames where its modality is present. The gate
    mixes, frame by frame, the streams that are present there; a real frame where neither is present gets a
    learned token, and the fused layers fill it in from its neighbours. After arXiv 2603.08034, which
    publishes neither the equations of its fusion nor the gate: sizes, gate, token and positions are this
    library's own.

    Args:
        visual_dim: Dv, the size of visual features.
        audio_dim: Da, the size of audio features.
        num_classes: C.
        dim: Width of the transformers; even, and divisible by ``num_heads``.
        num_heads: Attention heads in every layer.
        num_layers: Temporal layers of each branch.
        fused_layers: Temporal layers after the gate.
        dropout: Dropout in every layer.
        position: ``"sinusoidal"`` adds the position to every token; ``"rotary"`` turns queries and keys by
            it, so that attention knows distances in time alone. Either is taken from the frames' timestamps.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``, ``dim`` is odd (for rotary positions, ``dim /
            num_heads``), or ``position`` is neither of the two.
    """

    def __init__(
        self,
        visual_dim: int,
        audio_dim: int,
        num_classes: int,
        dim: int = 128,
        num_heads: int = 4,
        num_layers: int = 1,
        fused_layers: int = 1,
        dropout: float = 0.1,
        position: Position = "sinusoidal",
    ) -> None:
        super().__init__()
        if position not in get_args(Position):
            raise ValueError(f"position must be one of {', '.join(get_args(Position))}; got {position!r}")
        check_head(visual_dim, audio_dim, num_classes, dropout)
        check_count(1, MOST_FEATURES, dim=dim)
        check_count(0, MOST_LAYERS, num_layers=num_layers, fused_layers=fused_layers)
        layers = {"num_layers": num_layers, "fused_layers": fused_layers}
        check_weights((2 * num_layers + fused_layers + 2) * 12 * dim**2, dim=dim, **layers)
        self.visual_branch = _Branch(visual_dim, dim, num_heads, num_layers, dropout)
        self.audio_branch = _Branch(audio_dim, dim, num_heads, num_layers, dropout)
        self.visual_cross = SafeTransformerLayer(dim, num_heads, dropout)
        self.audio_cross = SafeTransformerLayer(dim, num_heads, dropout)
        self.gate = PresenceGate(dim)
        self.nothing_token = nn.Parameter(0.02 * torch.randn(dim))
        self.fused = nn.ModuleList(SafeTransformerLayer(dim, num_heads, dropout) for _ in range(fused_layers))
        self.classifier = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_classes))
        self.position = position
        self.position_dim = dim // num_heads if position == "rotary" else dim
        if self.position_dim % 2:
            size = "dim / num_heads" if position == "rotary" else "dim"
            raise ValueError(f"{size} must be even, for half sines and half cosines; got {self.position_dim}")

    def forward(
        self,
        visual: Tensor,
        audio: Tensor,
        video_mask: Tensor,
        audio_mask: Tensor,
        time: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Score every frame; see :meth:`FusionHead.forward`.

        ``time`` counts from the window's first real frame; without it, frames are 1/30 s apart.
        """
        if frame_mask is None:
            frame_mask = torch.ones_like(video_mask)
        visual, video_mask = zero_absent(visual, video_mask, frame_mask)
        audio, audio_mask = zero_absent(audio, audio_mask, frame_mask)
        position = sinusoidal_position(time_in_window(time, frame_mask), self.position_dim)
        added, rotation = (None, position) if self.position == "rotary" else (position, None)

        seen = self.visual_branch(visual, video_mask, added, rotation)
        heard = self.audio_branch(audio, audio_mask, added, rotation)
        seen, heard = (
            self.visual_cross(seen, video_mask, heard, audio_mask, rotation),
            self.audio_cross(heard, audio_mask, seen, video_mask, rotation),
        )
        fused = self.gate(torch.stack([seen, heard], dim=2), torch.stack([video_mask, audio_mask], dim=2))

        # The position again: the learned token has none.
        nothing = _add(self.nothing_token.to(fused.dtype), added)
        fused = torch.where((video_mask | audio_mask)[..., None], fused, nothing)
        for layer in self.fused:
            fused = layer(fused, frame_mask, rotation=rotation)
        logits: Tensor = self.classifier(fused)
        return logits


class PresenceGate(nn.Module):
    """Mixes the streams that are present at a frame, with weights that all of them decide.

    Args:
        dim: D, the size of a stream's token.
        num_streams: M.
    """

    def __init__(self, dim: int, num_streams: int = 2) -> None:
        super().__init__()
        self.score = nn.Linear(num_streams * dim, num_streams)

    def forward(self, streams: Tensor, present: Tensor) -> Tensor:
        """Weighted mean over the streams that are present; zeros where none is.

        Args:
            streams: (B, T, M, D), finite.
            present: bool (B, T, M).

        Returns:
            (B, T, D).
        """
        streams = torch.where(present[..., None], streams, 0)
        scores = self.score(streams.flatten(2))
        # Where nothing is present every stream is allowed, and is zero: a softmax over nothing would be NaN.
        allowed = present | ~present.any(dim=-1, keepdim=True)
        weights = scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1)
        mixed: Tensor = (weights[..., None] * streams).sum(dim=2)
        return mixed


class _Branch(nn.Module):
    """One modality's features to tokens that know their time and their neighbours."""

    def __init__(self, features: int, dim: int, num_heads: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        # Normalised after the projection: encoders differ in scale by orders of magnitude, positions do not.
        self.project = nn.Sequential(nn.Linear(features, dim), nn.LayerNorm(dim))
        self.layers = nn.ModuleList(SafeTransformerLayer(dim, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, features: Tensor, mask: Tensor, added: Tensor | None, rotation: Tensor | None
    ) -> Tensor:
        x = _add(self.project(features), added)
        for layer in self.layers:
            x = layer(x, mask, rotation=rotation)
        normed: Tensor = self.norm(x)
        return normed


def _add(tokens: Tensor, position: Tensor | None) -> Tensor:
    return tokens if position is None else tokens + position.to(tokens.dtype)
