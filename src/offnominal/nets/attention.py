"""Attention in the forms methods use: soft-max (with its correlations, with relative places), ReLU, linear.

All take ``(queries (n, q, width), context (n, k, width) or None)`` and give ``(n, q, width)``; without a
context the queries attend to themselves. So any of them can be put into `transformer.Block`.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention: projections shared by all forms; a form says how heads mix values.

    Parameters
    ----------
    width : int
        Channels of tokens, a multiple of ``heads``.
    heads : int
    bias : bool, default True
        Whether the projections of queries, keys and values have one.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.to_query = nn.Linear(width, width, bias)
        self.to_key = nn.Linear(width, width, bias)
        self.to_value = nn.Linear(width, width, bias)
        self.to_out = nn.Linear(width, width)
        for layer in (self.to_query, self.to_key, self.to_value, self.to_out):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, t, width) → (n, heads, t, width / heads)."""
        n, count, _ = tokens.shape
        return tokens.reshape(n, count, self.heads, -1).transpose(1, 2)

    def _join(self, mixed: torch.Tensor) -> torch.Tensor:
        """(n, heads, t, width / heads) → (n, t, width), projected."""
        joined: torch.Tensor = self.to_out(mixed.transpose(1, 2).flatten(-2))
        return joined

    def _project(
        self, queries: torch.Tensor, context: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        source = queries if context is None else context
        return (
            self._split(self.to_query(queries)),
            self._split(self.to_key(source)),
            self._split(self.to_value(source)),
        )

    def _mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not say how it mixes values: implement _mix")

    def forward(self, queries: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Attend: (n, q, width), (n, k, width) → (n, q, width)."""
        mixed = self._mix(*self._project(queries, context))
        return self._join(mixed)


class SoftmaxAttention(Attention):
    """The usual attention (Vaswani et al. 2017), for self- and cross-attention.

    Parameters
    ----------
    width, heads, bias
        As in `Attention`.
    dropout : float, default 0
        Share of correlations dropped in training.
    relative : RelativeBias, optional
        Adds a learned bias by distance along the sequence; for self-attention.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        relative: RelativeBias | None = None,
    ) -> None:
        super().__init__(width, heads, bias=bias)
        self.dropout = dropout
        self.relative = relative

    def _bias(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor | None:
        return None if self.relative is None else self.relative(q.shape[2], k.shape[2])

    def _mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        dropped = self.dropout if self.training else 0.0
        return functional.scaled_dot_product_attention(q, k, v, self._bias(q, k), dropped)

    def correlate(
        self, queries: torch.Tensor, context: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend, and return the correlations too.

        Returns
        -------
        tokens : (n, q, width) tensor
        correlation : (n, heads, q, k) tensor
            Rows sum to 1. Given before dropout.
        """
        q, k, v = self._project(queries, context)
        logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if (bias := self._bias(q, k)) is not None:
            logits = logits + bias
        correlation = logits.softmax(-1)
        mixed = functional.dropout(correlation, self.dropout, self.training) @ v
        return self._join(mixed), correlation


class RelativeBias(nn.Module):
    """A learned number a head and distance between two places on a line, added before the soft-max.

    Parameters
    ----------
    heads : int
    length : int
        Longest sequence.
    """

    def __init__(self, heads: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.table = nn.Parameter(torch.empty(heads, 2 * length - 1))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, queries: int, keys: int) -> torch.Tensor:
        """Biases (heads, queries, keys); entry (i, j) is the table's at distance j − i."""
        if max(queries, keys) > self.length:
            raise ValueError(f"a sequence of {max(queries, keys)}, relative places go up to {self.length}")
        place = torch.arange(keys, device=self.table.device)[None]
        here = torch.arange(queries, device=self.table.device)[:, None]
        return self.table[:, place - here + self.length - 1]


class ReLUAttention(Attention):
    """Correlations are cosines, scaled, cut at zero and not normalised, as in INP-Former's decoder.

    Weak and opposite correlations then count nothing at all, and a token that resembles no context token
    gets nothing: an anomaly cannot be put together out of many small shares.

    Parameters
    ----------
    width, heads, bias
        As in `Attention`. Each head has a learned scale, 1 at first.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__(width, heads, bias=bias)
        self.scale = nn.Parameter(torch.ones(heads, 1, 1))

    def _mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        cosine = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
        return (cosine * self.scale).relu() @ v


class LinearAttention(Attention):
    """Attention in time linear in the tokens, with the kernel elu + 1 (Katharopoulos et al. 2020).

    Parameters
    ----------
    width, heads, bias
        As in `Attention`.
    """

    def _mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        total = q @ k.sum(-2, keepdim=True).transpose(-2, -1)
        return (q @ (k.transpose(-2, -1) @ v)) / total
