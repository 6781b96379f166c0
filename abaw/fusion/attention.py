"""Cross-attention that survives an empty context."""

from typing import Literal, overload

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from abaw.fusion.position import rotate
from abaw.ranges import MOST_FEATURES, check_count, check_number, check_weights


class SafeCrossAttention(nn.Module):
    """Multi-head cross-attention whose context may be missing, in part or as a whole.

    For each sample on its own:

    1. a context with at least one present token is attended to under its mask;
    2. a context with none is replaced by the query sequence under the query's mask, so that cross-attention
       becomes self-attention with the same projections;
    3. if that is empty too, the result is zero.

    Absent query positions return zeros. Whatever lies at absent places, NaN and infinity included, changes
    neither the result nor any gradient, and no gradient is NaN or infinite because something is missing. The
    forward neither branches on data or lengths nor waits for the device: it is one static graph for
    ``torch.compile(fullgraph=True)`` and for ``torch.export`` with dynamic batch and lengths.

    Attention itself is :func:`torch.nn.functional.scaled_dot_product_attention` (Vaswani et al. 2017, eq. 1)
    with a boolean mask broadcast over heads and queries. On the CPU, PyTorch's flash kernel serves such a
    mask, or the plain formula where attention weights are dropped; on CUDA its flash kernel takes no mask,
    and the memory-efficient one is chosen, or on some GPUs cuDNN's. The fallback to the query follows the
    idea of arXiv 2603.08034, which publishes no equations: the rules above are this library's own.

    Args:
        dim: D, the size of a token of query, context and result.
        num_heads: Number of heads; divides ``dim``.
        dropout: Probability of dropping an attention weight while training.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``, or ``dropout`` is outside [0, 1).

    >>> attention = SafeCrossAttention(dim=8, num_heads=2)
    >>> faces, voices = torch.randn(1, 5, 8), torch.full((1, 3, 8), torch.nan)
    >>> nobody_speaks = torch.zeros(1, 3, dtype=torch.bool)
    >>> safe = attention(faces, voices, context_mask=nobody_speaks)
    >>> torch.equal(safe, attention(faces, faces))
    True
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_count(1, MOST_FEATURES, dim=dim, num_heads=num_heads)
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got dim={dim} and num_heads={num_heads}")
        check_number(0, 1, below=True, dropout=dropout)
        check_weights(4 * dim**2, dim=dim)
        self.dim = dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_proj = nn.Linear(dim, dim)
        self.key_value_proj = nn.Linear(dim, 2 * dim)
        self.out_proj = nn.Linear(dim, dim)

    @overload
    def forward(
        self,
        query: Tensor,
        context: Tensor,
        query_mask: Tensor | None = ...,
        context_mask: Tensor | None = ...,
        need_weights: Literal[False] = ...,
        rotation: Tensor | None = ...,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        query: Tensor,
        context: Tensor,
        query_mask: Tensor | None = ...,
        context_mask: Tensor | None = ...,
        *,
        need_weights: Literal[True],
        rotation: Tensor | None = ...,
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        query: Tensor,
        context: Tensor,
        query_mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        need_weights: bool = False,
        rotation: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from ``query`` to ``context``, or to ``query`` where a sample has no context.

        Args:
            query: (B, Tq, D).
            context: (B, Tk, D).
            query_mask: bool (B, Tq), True where a token is present; ``None`` means everywhere.
            context_mask: bool (B, Tk), True where a token is present; ``None`` means everywhere.
            need_weights: Return the attention maps too, for plots. They are computed beside the result,
                without dropout, and cost (B, heads, Tq, max(Tq, Tk)) of memory.
            rotation: float (B, T, D / heads), the sinusoidal positions of T = Tq = Tk frames that query and
                context share: queries and keys are turned by them (see
                :func:`~abaw.fusion.position.rotate`).

        Returns:
            (B, Tq, D); with ``need_weights`` also float (B, heads, Tq, max(Tq, Tk)): each present query's row
            sums to 1 over the tokens of the context, or of the query where there was no context; other rows
            are zeros.

        Raises:
            ValueError: If the shapes do not fit each other or ``dim``, or a mask is not bool.
        """
        query_mask = self._checked_mask("query", query, query_mask)
        context_mask = self._checked_mask("context", context, context_mask)
        if query.shape[0] != context.shape[0]:
            raise ValueError(f"query has {query.shape[0]} samples, context {context.shape[0]}")

        # Zeroed before any projection: 0 · NaN would bring back what the masks leave out.
        query = torch.where(query_mask[..., None], query, 0)
        source, source_mask = self._choose_source(query, context, query_mask, context_mask)

        q = rearrange(self.query_proj(query), "b t (h d) -> b h t d", h=self.num_heads)
        k, v = rearrange(self.key_value_proj(source), "b t (kv h d) -> kv b h t d", kv=2, h=self.num_heads)
        if rotation is not None:
            if query.shape != context.shape or rotation.shape[-2:] != q.shape[-2:]:
                raise ValueError(
                    f"rotation must be (batch, time, {q.shape[-1]}), and query and context equally long: got "
                    f"{tuple(rotation.shape)} for {query.shape[1]} and {context.shape[1]} tokens"
                )
            q, k = rotate(q, rotation[:, None]), rotate(k, rotation[:, None])
        # A row without any key is NaN after the softmax. Only samples with nothing at all have such rows: let
        # them look at their zeros, the result is set to zero below.
        attend = (source_mask | ~source_mask.any(dim=1, keepdim=True))[:, None, None, :]
        heads = F.scaled_dot_product_attention(
            q, k, v, attn_mask=attend, dropout_p=self.dropout if self.training else 0.0
        )
        result = self.out_proj(rearrange(heads, "b h t d -> b t (h d)"))
        result = torch.where(query_mask[..., None], result, 0)
        if not need_weights:
            return result
        wide = torch.promote_types(q.dtype, torch.float32)
        scores = q.to(wide) @ k.to(wide).transpose(-2, -1) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(~attend, -torch.inf).softmax(dim=-1)
        return result, torch.where(query_mask[:, None, :, None], weights, 0)

    @staticmethod
    def _choose_source(
        query: Tensor, context: Tensor, query_mask: Tensor, context_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What each sample attends to, (B, max(Tq, Tk), D), and its mask; ``query`` is zero where absent."""
        # Both are padded to the longer without asking which that is: one graph serves every pair of lengths.
        # A sum, not max(Tq, Tk): from that torch.export would conclude that the longer is never 1.
        missing_query = max(context.shape[1] - query.shape[1], 0)
        missing_context = query.shape[1] + missing_query - context.shape[1]
        query, query_mask = F.pad(query, (0, 0, 0, missing_query)), F.pad(query_mask, (0, missing_query))
        context = F.pad(context, (0, 0, 0, missing_context))
        context_mask = F.pad(context_mask, (0, missing_context))

        has_context = context_mask.any(dim=1, keepdim=True)
        fallback = torch.where(has_context[..., None], 0, query)
        source = torch.where(context_mask[..., None], context, fallback)
        # A mask without a True needs no choosing from, and ONNX Runtime chooses between no booleans.
        return source, context_mask | (query_mask & ~has_context)

    def _checked_mask(self, name: str, tokens: Tensor, mask: Tensor | None) -> Tensor:
        if tokens.ndim != 3 or tokens.shape[-1] != self.dim:
            raise ValueError(f"{name} must be (batch, time, {self.dim}), got {tuple(tokens.shape)}")
        if mask is None:
            return tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
        if mask.dtype != torch.bool or mask.shape != tokens.shape[:2]:
            raise ValueError(
                f"{name}_mask must be bool {tuple(tokens.shape[:2])} with True where a token is present, "
                f"got {mask.dtype} {tuple(mask.shape)}"
            )
        return mask
