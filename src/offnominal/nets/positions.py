"""Position codes of tokens: fixed sinusoids and learned tables, along a line and over a grid."""

from __future__ import annotations

import torch
from torch import nn


def sinusoidal(length: int, width: int) -> torch.Tensor:
    """Sine and cosine code along a line (Vaswani et al. 2017, section 3.5).

    Parameters
    ----------
    length : int
        Positions.
    width : int
        Even number of channels: sines in even ones, cosines in odd ones.

    Returns
    -------
    (length, width) float32 tensor
    """
    if width % 2:
        raise ValueError(f"a sinusoidal code needs an even width, got {width}")
    rates = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, width).float()


def sinusoidal_grid(rows: int, columns: int, width: int) -> torch.Tensor:
    """Code of a grid: the row's code in the first half of the channels, the column's in the second.

    Returns
    -------
    (rows·columns, width) float32 tensor
        In row-major order; ``width`` must be a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"a sinusoidal code of a grid needs a width that is a multiple of 4, got {width}")
    down = sinusoidal(rows, width // 2)[:, None].expand(-1, columns, -1)
    across = sinusoidal(columns, width // 2)[None].expand(rows, -1, -1)
    return torch.cat([down, across], dim=-1).reshape(rows * columns, width)


class LearnedPositions(nn.Module):
    """A learned vector a position, to be added to tokens.

    Parameters
    ----------
    length, width : int
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, width))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self) -> torch.Tensor:
        """Codes (length, width)."""
        return self.table


class LearnedGrid(nn.Module):
    """A learned vector a row and one a column, each half the channels, as UniAD and OneNIP use them.

    Parameters
    ----------
    rows, columns : int
    width : int
        Even.
    """

    def __init__(self, rows: int, columns: int, width: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"a learned code of a grid needs an even width, got {width}")
        self.down = nn.Parameter(torch.rand(rows, width // 2))
        self.across = nn.Parameter(torch.rand(columns, width // 2))

    def forward(self) -> torch.Tensor:
        """Codes (rows·columns, width) in row-major order."""
        rows, columns = len(self.down), len(self.across)
        down = self.down[:, None].expand(-1, columns, -1)
        across = self.across[None].expand(rows, -1, -1)
        return torch.cat([down, across], dim=-1).reshape(rows * columns, -1)
