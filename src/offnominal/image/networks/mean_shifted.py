"""Losses and score of mean-shifted contrastive learning, and what other contrastive methods share."""

from __future__ import annotations

import torch
from torch import nn

LEAST = 1e-3
"""Distance of unit vectors that the smallest ones tend to: below it rounding has its say."""


class Embedding(nn.Module):
    """Pixels → an encoder's vector of length one.

    Parameters
    ----------
    encoder : module
        Gives a list with one vector an image.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, S, S, 3) in 0…255 → (n, d)."""
        return unit(self.encoder(pixels)[0])


class NearestEmbeddings(nn.Module):
    """What is exported: the sum of the distances to the nearest normal embeddings.

    Parameters
    ----------
    embed : module
        Pixels → vectors of length one.
    bank : (m, d) tensor
        Such vectors of normal images.
    neighbours : int
        How many nearest; fewer where there are fewer.
    """

    bank: torch.Tensor

    def __init__(self, embed: nn.Module, bank: torch.Tensor, neighbours: int) -> None:
        super().__init__()
        self.embed = embed
        self.register_buffer("bank", bank)
        self.neighbours = min(neighbours, len(bank))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, S, S, 3) → (n,)."""
        rows = self.embed(pixels)
        nearest = (rows @ self.bank.T).topk(self.neighbours, 1).indices
        # by differences, for products of near vectors lose digits
        squared = (rows[:, None] - self.bank[nearest]).square().sum(2)
        found: torch.Tensor = (squared + LEAST**2).sqrt().sum(1)
        return found


def unit(rows: torch.Tensor) -> torch.Tensor:
    """Rows (…, d) brought to length one."""
    return rows / rows.square().sum(-1, keepdim=True).clamp_min(1e-24).sqrt()


def contrast(views: torch.Tensor, temperature: float) -> torch.Tensor:
    """SimCLR's loss: of rows (2 n, d) of length one, row i and row n + i belong together."""
    count = len(views) // 2
    likeness = views @ views.T / temperature
    likeness = likeness.masked_fill(torch.eye(len(views), dtype=torch.bool, device=views.device), -1e9)
    partner = torch.arange(len(views), device=views.device).roll(count)
    return nn.functional.cross_entropy(likeness, partner)


def mean_shifted(
    views: torch.Tensor, centre: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrast about the mean (eq. 4 of the paper), and the angular term: mean squared distance to it.

    Parameters
    ----------
    views : (2 n, d) tensor
        Embeddings of length one of two views of each image, the first views before the second ones.
    centre : (d,) tensor
        Normalised mean of the normal embeddings before training.
    temperature : float
    """
    apart = views - centre
    return contrast(unit(apart), temperature), apart.square().sum(1).mean()
