"""The largest value of a smoothed map, as a score inside a network."""

from __future__ import annotations

import torch
from torch import nn

from offnominal.image.maps import operator


class Peak(nn.Module):
    """Largest value of the map that a grid of errors becomes: enlarged to model size and smoothed.

    Parameters
    ----------
    grid : int
        Side of the grid.
    model : int
        Side of the map, in model pixels.
    smoothing : float
        Standard deviation of the Gaussian, in model pixels.
    """

    rows: torch.Tensor

    def __init__(self, grid: int, model: int, smoothing: float) -> None:
        super().__init__()
        self.register_buffer("rows", torch.from_numpy(operator(grid, model, model, smoothing).copy()))

    def forward(self, errors: torch.Tensor) -> torch.Tensor:
        """(n, grid, grid) → (n,)."""
        return (self.rows @ errors @ self.rows.T).flatten(1).amax(1)
