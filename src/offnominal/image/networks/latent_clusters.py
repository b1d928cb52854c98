"""Supervised variational auto-encoder with one latent cluster a class."""

from __future__ import annotations

import torch
from torch import nn

from offnominal.nets.convolution import ConvDecoder, ConvEncoder
from offnominal.nets.vae import VAE

CHANNELS = (64, 128)
"""Of the encoder's two levels."""
LIFTED = 16
"""Channels that a discrepancy map is brought to, so that it is not one among many."""


class ClusterVAE(nn.Module):
    """Features of an image, and where there is one its discrepancy map → codes → the image.

    Parameters
    ----------
    scale : module
        What is done to the features first.
    channels : int
        Of the features.
    grid : int
        Cells along a side, divisible by four.
    latent : int
        Width of the code.
    side : int
        Of the reconstruction, in pixels; divisible by 16.
    separation : float
        Distance of the two clusters' centres.
    discrepancy : bool
        Whether there is a map.
    """

    direction: torch.Tensor

    def __init__(
        self,
        scale: nn.Module,
        channels: int,
        grid: int,
        latent: int,
        side: int,
        separation: float,
        *,
        discrepancy: bool,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.grid = grid
        self.side = side
        self.reduce = nn.Conv2d(channels, CHANNELS[0], 1)
        self.lift = nn.Sequential(nn.Conv2d(1, LIFTED, 1), nn.ReLU()) if discrepancy else None
        taken = CHANNELS[0] + (LIFTED if discrepancy else 0)
        self.vae = VAE(
            # a norm over the map would hide how much of it is off
            ConvEncoder(taken, CHANNELS, (grid, grid), latent=2 * latent, norm="none"),
            ConvDecoder(3, (16, 32, 64, 64), (side, side), latent=latent, norm="group"),
        )
        direction = torch.randn(latent)
        self.register_buffer("direction", direction / direction.norm() * separation / 2)

    def centres(self, labels: torch.Tensor) -> torch.Tensor:
        """Centre of the cluster (n, latent) that each label (n,), 0 or 1, belongs to."""
        return (2 * labels[:, None] - 1) * self.direction

    def encode(
        self, features: torch.Tensor, discrepancy: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance of the codes, each (n, latent)."""
        seen = self.reduce(self.scale(features).permute(0, 3, 1, 2))
        if discrepancy is not None and self.lift is not None:
            # the largest of each cell, for small anomalies are what the map is there for
            cell = discrepancy.shape[1] // self.grid
            coarse = nn.functional.max_pool2d(discrepancy[:, None], cell)
            seen = torch.cat([seen, self.lift(coarse / 32 - 4)], 1)
        return self.vae.encode(seen)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes (n, latent) → pixels (n, side, side, 3) in 0…255."""
        made: torch.Tensor = self.vae.decoder(codes)
        return 255 * made.sigmoid().permute(0, 2, 3, 1)

    def distances(self, means: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distance (n,) to the centre of the normal cluster, and to that of the anomalous one."""
        normal, off = (means + self.direction), (means - self.direction)
        return normal.square().sum(1).sqrt(), off.square().sum(1).sqrt()


class ClusterScore(nn.Module):
    """What is exported: the share of the distance to the normal cluster in both; above ½ is anomalous."""

    def __init__(self, model: ClusterVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: torch.Tensor, discrepancy: torch.Tensor | None = None) -> torch.Tensor:
        """(n, h, w, c), and (n, S, S) where there is a map → (n,)."""
        normal, off = self.model.distances(self.model.encode(features, discrepancy)[0])
        found: torch.Tensor = normal / (normal + off).clamp_min(1e-9)
        return found


def apart(means: torch.Tensor, labels: torch.Tensor, separation: float) -> torch.Tensor:
    """Penalty on classes whose mean codes are nearer to each other than ``separation``.

    Parameters
    ----------
    means : (n, latent) tensor
    labels : (n,) tensor of 0 and 1
        Where a class is missing the penalty is 0.
    separation : float
    """
    off = labels[:, None]
    counts = (1 - off).sum(), off.sum()
    if min(float(counts[0]), float(counts[1])) == 0:
        return means.sum() * 0
    gap = (means * (1 - off)).sum(0) / counts[0] - (means * off).sum(0) / counts[1]
    penalty: torch.Tensor = (separation - gap.norm()).relu().square() / separation
    return penalty
