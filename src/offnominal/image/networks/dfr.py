"""The auto-encoder of regional features (DFR, section 3.2)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class FeatureAutoencoder(nn.Module):
    """Six 1 × 1 convolutions, C → (C + 2d)/2 → 2d → d → 2d → (C + 2d)/2 → C, and the error of each position.

    A 1 × 1 convolution is the same linear layer at every position, so positions come in any arrangement.

    Parameters
    ----------
    scale : module
        What is done to the features first; the error is taken of what comes out.
    channels : int
        C.
    code : int
        d.
    """

    def __init__(self, scale: nn.Module, channels: int, code: int) -> None:
        super().__init__()
        self.scale = scale
        between = (channels + 2 * code) // 2
        widths = [channels, between, 2 * code, code, 2 * code, between, channels]
        layers: list[nn.Module] = []
        for place, (taken, given) in enumerate(pairwise(widths)):
            layers.append(nn.Linear(taken, given))
            if place not in (2, 5):  # neither the code nor the output
                layers += [nn.BatchNorm1d(given), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def errors(self, features: torch.Tensor) -> torch.Tensor:
        """Squared error averaged over the channels: (…, C) → (…)."""
        rows = self.scale(features.reshape(-1, features.shape[-1]))
        errors: torch.Tensor = (self.layers(rows) - rows).square().mean(-1)
        return errors.reshape(features.shape[:-1])

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, h, w, C) → scores (n,) and errors (n, h, w)."""
        errors = self.errors(features)
        return errors.flatten(1).amax(1), errors
