"""One pre-norm transformer block, whatever its attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class MLP(nn.Module):
    """Two linear layers with GELU between, on each token alone.

    Parameters
    ----------
    width, hidden : int
    out : int, optional
        Output channels, default ``width``.
    dropout : float, default 0
    """

    def __init__(self, width: int, hidden: int, out: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.into = nn.Linear(width, hidden)
        self.back = nn.Linear(hidden, out or width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, width) → (…, out)."""
        hidden = self.dropout(nn.functional.gelu(self.into(tokens)))
        out: torch.Tensor = self.dropout(self.back(hidden))
        return out


class Block(nn.Module):
    """Attention, then an MLP, each after a layer norm.

    Parameters
    ----------
    width : int
        Channels of tokens.
    attention : module
        Any of `attention`, of the same width.
    ratio : float, default 4
        Hidden channels of the MLP, in widths.
    residual : bool, default True
        Whether the queries are added to what attention gives. Without it the block cannot copy its input: all
        it passes on comes from the context.
    cross : bool, default False
        Whether there is a context, which then has a layer norm of its own.
    dropout : float, default 0
        Of the MLP and of what attention gives.
    """

    def __init__(
        self,
        width: int,
        attention: nn.Module,
        *,
        ratio: float = 4.0,
        residual: bool = True,
        cross: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.residual = residual
        self.norm_queries = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width) if cross else None
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width, round(width * ratio), dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """(n, q, width), with ``cross`` also (n, k, width) → (n, q, width)."""
        if (context is None) != (self.norm_context is None):
            raise ValueError("a context goes with a block made with cross=True, and only with such a block")
        if self.norm_context is not None:
            context = self.norm_context(context)
        found: torch.Tensor = self.dropout(self.attention(self.norm_queries(tokens), context))
        tokens = tokens + found if self.residual else found
        changed: torch.Tensor = self.mlp(self.norm_mlp(tokens))
        return tokens + changed


class Transformer(nn.Module):
    """Blocks one after another, and a layer norm.

    Parameters
    ----------
    depth : int
    width : int
    block : callable
        Makes a new block each time.
    """

    def __init__(self, depth: int, width: int, block: Callable[[], Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """(n, q, width), perhaps (n, k, width) → (n, q, width)."""
        normed: torch.Tensor = self.norm(self.layers(tokens, context)[-1])
        return normed

    def layers(self, tokens: torch.Tensor, context: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Output of every block, before the last norm: ``depth`` tensors (n, q, width)."""
        found = []
        for block in self.blocks:
            tokens = block(tokens, context)
            found.append(tokens)
        return found
