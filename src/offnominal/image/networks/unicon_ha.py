"""Stages, heads and losses of UniCon-HA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from offnominal.image.networks.mean_shifted import unit


class Stages(nn.Module):
    """An encoder that can stop at several depths, with a projection head at each.

    Parameters
    ----------
    encoders : sequence of modules
        Of one network each, with the same names of layers; each gives a list with one vector an image, from
        shallow to deep. They are made to share the layers of the last.
    widths : sequence of int
        Of their vectors.
    projected : int
        Width of the heads' outputs.
    """

    def __init__(self, encoders: Sequence[Any], widths: Sequence[int], projected: int) -> None:
        super().__init__()
        whole = encoders[-1].layers
        for encoder in encoders[:-1]:
            for name in encoder.layers:
                encoder.layers[name] = whole[name]
        self.encoders = nn.ModuleList(encoders)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projected)) for width in widths
        )

    def forward(self, pixels: torch.Tensor, stage: int) -> torch.Tensor:
        """(n, S, S, 3) in 0…255 → (n, projected) of length one, at a depth; layers beyond it do not run."""
        return unit(self.heads[stage](self.encoders[stage](pixels)[0]))


class Deepest(nn.Module):
    """Pixels → vectors of length one at the deepest stage: the encoder's own, for detection."""

    def __init__(self, stages: Stages) -> None:
        super().__init__()
        self.encoder = stages.encoders[-1]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, S, S, 3) in 0…255 → (n, d)."""
        return unit(self.encoder(pixels)[0])


def turned(pixels: torch.Tensor) -> torch.Tensor:
    """Images (n, S, S, 3) by a quarter, a half and three quarters: (3 n, S, S, 3), virtual outliers."""
    return torch.cat([torch.rot90(pixels, quarter, (1, 2)) for quarter in (1, 2, 3)])


def soft_weights(inliers: torch.Tensor) -> torch.Tensor:
    """How much each augmented inlier (n, d) counts: its cosine to their mean, the largest being one."""
    with torch.no_grad():
        likeness = (inliers @ unit(inliers.mean(0))).clamp_min(1e-3)
        return likeness / likeness.max()


def gathered(
    inliers: torch.Tensor, outliers: torch.Tensor, weights: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Supervised contrast of inliers: all others are positives, everything is in the denominator.

    Parameters
    ----------
    inliers : (n, d) tensor
        Vectors of length one of augmented inliers, at least 2.
    outliers : (m, d) tensor
    weights : (n,) tensor
        Each anchor's, and each positive's.
    temperature : float
    """
    count = len(inliers)
    likeness = inliers @ torch.cat([inliers, outliers]).T / temperature
    self_ = torch.eye(count, len(likeness[0]), dtype=torch.bool, device=inliers.device)
    logs = likeness.masked_fill(self_, -1e9).log_softmax(1)[:, :count]
    pairs = weights[:, None] * weights[None] * (1 - torch.eye(count, device=inliers.device))
    return -(pairs * logs).sum() / pairs.sum()


def spread(outliers: torch.Tensor, inliers: torch.Tensor, temperature: float) -> torch.Tensor:
    """Unsupervised contrast of outliers: only the other view of the same one is a positive.

    Parameters
    ----------
    outliers : (2 m, d) tensor
        Rows i and m + i are views of one virtual outlier.
    inliers : (n, d) tensor
    temperature : float
    """
    count = len(outliers)
    likeness = outliers @ torch.cat([outliers, inliers]).T / temperature
    self_ = torch.eye(count, len(likeness[0]), dtype=torch.bool, device=outliers.device)
    partner = torch.arange(count, device=outliers.device).roll(count // 2)
    return nn.functional.cross_entropy(likeness.masked_fill(self_, -1e9), partner)
