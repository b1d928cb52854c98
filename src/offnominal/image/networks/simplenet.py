"""Adaptor and discriminator of SimpleNet (sections 3.2 to 3.5)."""

from __future__ import annotations

import torch
from torch import nn


class Discriminator(nn.Module):
    """A linear adaptor, and a two-layer discriminator that is high on normal features.

    Parameters
    ----------
    scale : module
        What is done to the features first.
    channels : int
        Of the features.
    adaptor : bool
        Whether there is one; without it, features are judged as they come (ablation).
    hidden : int
        Width of the discriminator.
    """

    def __init__(self, scale: nn.Module, channels: int, *, adaptor: bool, hidden: int) -> None:
        super().__init__()
        self.scale = scale
        self.adaptor = nn.Linear(channels, channels) if adaptor else nn.Identity()
        self.judge = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.BatchNorm1d(hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1, bias=False),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)

    def adapt(self, features: torch.Tensor) -> torch.Tensor:
        """Adapted features: (…, c) → (…, c)."""
        adapted: torch.Tensor = self.adaptor(self.scale(features))
        return adapted

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, h, w, c) → scores (n,) and log(1 + exp(−D)) of the discriminator at each place (n, h, w)."""
        rows = self.adapt(features.reshape(-1, features.shape[-1]))
        places = nn.functional.softplus(-self.judge(rows)).reshape(features.shape[:-1])
        return places.flatten(1).amax(1), places


def truncated(normal: torch.Tensor, noisy: torch.Tensor, threshold: float | None) -> torch.Tensor:
    """The truncated L1 loss (eq. 6 to 8), or with no threshold the cross-entropy of its ablation."""
    if threshold is None:
        return nn.functional.softplus(-normal).mean() + nn.functional.softplus(noisy).mean()
    return (threshold - normal).relu().mean() + (threshold + noisy).relu().mean()
