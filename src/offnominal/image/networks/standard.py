"""Channels brought to one scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn


class Standard(nn.Module):
    """``(x − mean) / deviation`` of each channel, by numbers taken from the training features.

    Parameters
    ----------
    mean, deviation : ndarray (c,)
        A deviation below a thousandth of the largest counts as that much: a channel that never changes in
        training must not drown all others when it does.
    """

    mean: torch.Tensor
    factor: torch.Tensor

    def __init__(self, mean: npt.NDArray[np.floating], deviation: npt.NDArray[np.floating]) -> None:
        super().__init__()
        least = max(1e-3 * float(deviation.max()), 1e-6)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("factor", torch.tensor(1 / np.maximum(deviation, least), dtype=torch.float32))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(…, c) → (…, c)."""
        return (values - self.mean) * self.factor
