"""Small dense networks of vector detectors: trained with torch, run without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import ExtraMissing
from offnominal.table.blocks import Matrix

if TYPE_CHECKING:
    import torch
    from torch import nn

LEAK = 0.1
"""Slope of the activation below 0."""
Layers = dict[str, npt.NDArray[Any]]


def dense(widths: Sequence[int], *, bias: bool, seed: int, name: str) -> nn.Sequential:
    """Layers from width to width, a leaky rectifier between them; first weights depend on the seed only.

    Raises
    ------
    ExtraMissing
        PyTorch is not installed.
    """
    if find_spec("torch") is None or find_spec("lightning_fabric") is None:
        raise ExtraMissing("torch", f"training {name}")
    from torch import nn

    from offnominal.nets.seeding import seeded

    parts: list[Any] = []
    with seeded(seed, name):
        for number, (width, following) in enumerate(pairwise(widths)):
            if number:
                parts.append(nn.LeakyReLU(LEAK))
            parts.append(nn.Linear(width, following, bias=bias))
    return nn.Sequential(*parts)


def fit_dense(
    network: nn.Module,
    loss: Callable[[Any], torch.Tensor],
    rows: Matrix,
    *,
    steps: int,
    batch: int,
    rate: float,
    decay: float,
    seed: int,
    name: str,
) -> None:
    """Train on batches of rows (b, d); the rate falls to a twentieth."""
    import torch

    from offnominal.nets.batches import minibatches
    from offnominal.nets.schedules import cosine
    from offnominal.nets.training import train

    numbers = rows.astype(np.float32)
    train(
        network.train(),
        loss,
        minibatches(len(rows), min(batch, len(rows)), lambda at, random: numbers[at]),
        torch.optim.Adam(network.parameters(), rate, weight_decay=decay),
        steps=steps,
        schedule=cosine(0.05),
        device="cpu",  # batches are small: an accelerator would wait for them
        seed=seed,
        label=f"Training {name}",
    )


def layers_of(network: nn.Sequential) -> Layers:
    """Weights and biases of the layers, by their number."""
    found: Layers = {}
    linear: list[Any] = list(network)[::2]
    for number, layer in enumerate(linear):
        found[f"weight{number}"] = layer.weight.detach().numpy().copy()
        if layer.bias is not None:
            found[f"bias{number}"] = layer.bias.detach().numpy().copy()
    return found


def check_layers(layers: Layers, widths: Sequence[int]) -> None:
    """Refuse layers that do not lead from width to width.

    Raises
    ------
    ValueError
        They do not.
    """
    for number, shape in enumerate(zip(widths[1:], widths[:-1], strict=True)):
        if layers[f"weight{number}"].shape != shape:
            raise ValueError(f"layer {number} of the network has not the shape {shape}")


def forward(layers: Layers, rows: Matrix) -> Matrix:
    """What the network makes of rows (n, d): (n, width of the last layer)."""
    values = rows
    for number in range(sum(name.startswith("weight") for name in layers)):
        if number:
            values = np.where(values > 0, values, LEAK * values)
        values = values @ layers[f"weight{number}"].T.astype(np.float64)
        if f"bias{number}" in layers:
            values = values + layers[f"bias{number}"]
    return values
