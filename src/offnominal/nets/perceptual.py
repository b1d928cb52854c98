"""Content loss: images are alike where a frozen network's features are (Johnson et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class ContentLoss(nn.Module):
    """Compare images by features of a frozen encoder.

    Parameters
    ----------
    encoder : module
        Gives a list of feature maps (n, c, h, w). It is frozen, and kept in evaluation mode.
    weights : sequence of float, optional
        One for each map; default: all count the same, with sum 1.
    """

    def __init__(self, encoder: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.weights = weights

    def train(self, mode: bool = True) -> ContentLoss:
        """Switch the mode, the encoder's stays evaluation."""
        super().train(mode)
        self.encoder.eval()
        return self

    def maps(self, first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
        """Squared differences, averaged over channels: (n, h, w) for each feature map."""
        pairs = zip(self.encoder(first), self.encoder(second), strict=True)
        return [(a - b).square().mean(1) for a, b in pairs]

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Loss, one number; gradients reach both images."""
        found = self.maps(first, second)
        weights = self.weights or [1 / len(found)] * len(found)
        return torch.stack([w * value.mean() for w, value in zip(weights, found, strict=True)]).sum()
