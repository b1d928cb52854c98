"""Random projection outlyingness behind a network (S056), for vectors of any origin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from offnominal.nets.batches import minibatches
from offnominal.nets.schedules import drops
from offnominal.nets.seeding import seeded

FLOOR = 1e-3
"""Least median absolute deviation in training: gradients through a smaller one would blow up."""
LEAST = 0.01
"""Outlyingness that the smallest ones tend to in single precision: below it rounding has its say."""
LEAK = 0.1
"""Slope of the layers' activation below zero."""


class DeepOutlyingness(nn.Module):
    """Vectors → codes by layers without biases → mean outlyingness over fixed directions.

    Parameters
    ----------
    mean, deviation : ndarray (d,)
        What brings the vectors to one scale; a deviation below a thousandth of the largest number counts
        as that much.
    hidden : sequence of int
        Widths of the layers between.
    directions : ndarray (latent, k)
        Unit vectors; they stay as they are.
    """

    mean: torch.Tensor
    rate: torch.Tensor
    directions: torch.Tensor
    medians: torch.Tensor
    spreads: torch.Tensor

    def __init__(
        self,
        mean: npt.NDArray[Any],
        deviation: npt.NDArray[Any],
        hidden: Sequence[int],
        directions: npt.NDArray[Any],
    ) -> None:
        super().__init__()
        least = 1e-3 * max(float(deviation.max()), float(np.abs(mean).max())) + 1e-9
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("rate", torch.tensor(1 / np.maximum(deviation, least), dtype=torch.float32))
        widths = [len(mean), *hidden, len(directions)]
        self.layers = nn.ModuleList(nn.Linear(taken, given, bias=False) for taken, given in pairwise(widths))
        self.register_buffer("directions", torch.tensor(directions, dtype=torch.float32))
        self.register_buffer("medians", torch.zeros(directions.shape[1]))
        self.register_buffer("spreads", torch.ones(directions.shape[1]))

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, d) → codes (n, latent)."""
        values = (rows - self.mean) * self.rate
        for number, layer in enumerate(self.layers):
            values = layer(nn.functional.leaky_relu(values, LEAK) if number else values)
        return values

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Mean outlyingness of rows among themselves; medians and deviations are those of the batch."""
        projected = self.encode(rows) @ self.directions
        apart = (projected - projected.median(0).values).abs()
        return (apart / apart.median(0).values.clamp_min(FLOOR)).mean()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, d) → scores (n,)."""
        projected = self.encode(rows) @ self.directions
        signed = (projected - self.medians) / self.spreads
        return (signed.square() + LEAST**2).sqrt().mean(1)


def train_outlyingness(
    rows: npt.NDArray[np.float32],
    directions: npt.NDArray[Any],
    *,
    hidden: Sequence[int],
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    run: Callable[..., Any],
) -> DeepOutlyingness:
    """Train the network to minimise the mean outlyingness of normal rows.

    Parameters
    ----------
    rows : ndarray (n, d) float32
    directions : ndarray (latent, k)
    hidden, steps, batch, rate
        Layers and optimisation (Adam, weight decay 1e-6, a tenth of the rate for the last fifth).
    seed : int
        Of the layers.
    run : callable
        `nets.training.train`, or what a method makes of it.

    Returns
    -------
    DeepOutlyingness
        Medians and spreads are not set: they are those of all training codes, taken in float64 by
        `ProjectionOutlyingness.of`.
    """
    wide = rows.astype(np.float64)
    with seeded(seed, "outlyingness"):
        network = DeepOutlyingness(wide.mean(0), wide.std(0), hidden, directions)
    run(
        network.train(),
        network.loss,
        minibatches(len(rows), min(batch, len(rows)), lambda indices, random: rows[indices]),
        torch.optim.Adam(network.parameters(), rate, weight_decay=1e-6),
        steps=steps,
        schedule=drops(0.8),
    )
    return network.eval()
