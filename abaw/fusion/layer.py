"""What heads are made of: a transformer layer that stays finite when nothing is present, and a classifier."""

from torch import Tensor, nn

from abaw.fusion.attention import SafeCrossAttention
from abaw.ranges import MOST_FEATURES, check_count, check_weights


class SafeTransformerLayer(nn.Module):
    """Pre-norm transformer layer around :class:`SafeCrossAttention`, for self- and cross-attention alike.

    Attention and a feed-forward network of four times the width, each on normalised input and added to what
    came in (Xiong et al. 2020). ``nn.TransformerEncoderLayer`` returns NaN for a sample whose tokens are all
    masked; here absent tokens attend to nothing and are attended to by nothing.

    Args:
        dim: D, the size of a token; divisible by ``num_heads``.
        num_heads: Number of attention heads.
        dropout: Dropout of attention weights, of the hidden layer and of both residuals.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_count(1, MOST_FEATURES, dim=dim)
        check_weights(12 * dim**2, dim=dim)
        self.norm = nn.LayerNorm(dim)
        self.attention = SafeCrossAttention(dim, num_heads, dropout)
        self.attention_dropout = nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * dim, dim),
            nn.Dropout(dropout),
        )

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        rotation: Tensor | None = None,
    ) -> Tensor:
        """Update ``x`` from itself, or from ``context`` where one is given.

        Args:
            x: (B, T, D).
            mask: bool (B, T), True where a token is present.
            context: (B, Tk, D), normalised already; ``None`` means ``x`` itself.
            context_mask: bool (B, Tk), True where a token of ``context`` is present.
            rotation: float (B, T, D / heads), positions by which queries and keys are turned; then Tk = T.

        Returns:
            (B, T, D); what stands at absent places depends on nothing but ``x`` there.
        """
        query = self.norm(x)
        if context is None:
            context, context_mask = query, mask
        x = x + self.attention_dropout(self.attention(query, context, mask, context_mask, rotation=rotation))
        result: Tensor = x + self.feed_forward(x)
        return result


def mlp(in_features: int, hidden: int, out_features: int, dropout: float) -> nn.Sequential:
    """A network with one hidden, normalised layer."""
    return nn.Sequential(
        nn.Linear(in_features, hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, out_features),
    )
