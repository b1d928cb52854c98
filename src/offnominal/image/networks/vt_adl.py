"""Vision transformer whose patch embeddings are decoded to the image and modelled by a mixture density."""

from __future__ import annotations

import torch
from torch import nn

from offnominal.image.networks.errors import Squared, Structural, scaled
from offnominal.image.networks.peak import Peak
from offnominal.nets.attention import SoftmaxAttention
from offnominal.nets.convolution import ConvDecoder
from offnominal.nets.density import MixtureDensity
from offnominal.nets.positions import LearnedPositions
from offnominal.nets.transformer import Block, Transformer

FLOOR = 0.05
"""Least deviation of a Gaussian; embeddings are layer-normalised, so their own is about 1."""

SQUARED, STRUCTURE = 5.0, 0.5
"""Weights of the two reconstruction losses (section III-C)."""


class PatchDensity(nn.Module):
    """Pixels → embeddings → reconstruction, and log-density of each patch.

    Parameters
    ----------
    size, patch : int
        Sides of image and patch; the patch's is a power of two.
    width, depth, heads : int
        Of the transformer.
    components : int
        Gaussians.
    channels : int
        Of the decoder's finest level.
    noise : float
        Deviation of the noise that embeddings get before their density is predicted, in training.
    """

    def __init__(
        self,
        size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        components: int,
        channels: int,
        noise: float,
    ) -> None:
        super().__init__()
        self.side = size // patch
        self.into = nn.Conv2d(3, width, patch, patch)
        self.places = LearnedPositions(self.side**2, width)
        self.encoder = Transformer(depth, width, lambda: Block(width, SoftmaxAttention(width, heads)))
        levels = patch.bit_length() - 1
        widths = [min(channels * 2**level, width) for level in range(levels - 1)]
        self.decoder = ConvDecoder(3, (*widths, width), (size, size))
        self.density = MixtureDensity(width, width, components, floor=FLOOR)
        self.squared, self.structural = Squared(), Structural()
        self.noise = noise

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, S, S) → (n, patches, width)."""
        patches = self.into(images).flatten(2).transpose(1, 2)
        embedded: torch.Tensor = self.encoder(patches + self.places())
        return embedded

    def reconstruct(self, embedded: torch.Tensor) -> torch.Tensor:
        """(n, patches, width) → (n, 3, S, S)."""
        code = embedded.transpose(1, 2).reshape(len(embedded), -1, self.side, self.side)
        made: torch.Tensor = self.decoder(code)
        return made

    def errors(self, images: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """Weighted reconstruction errors (n, S, S)."""
        found: torch.Tensor = SQUARED * self.squared(images, made) + STRUCTURE * self.structural(images, made)
        return found

    def surprise(self, embedded: torch.Tensor) -> torch.Tensor:
        """Negative log-density of each patch, a channel of its embedding: (n, patches), in nats."""
        given = embedded + self.noise * torch.randn_like(embedded) if self.training else embedded
        return -self.density.log_likelihood(given, embedded) / embedded.shape[-1]

    def loss(self, pixels: torch.Tensor) -> torch.Tensor:
        """Both reconstruction losses and the mean surprise; the latter does not move the embeddings."""
        images = scaled(pixels)
        embedded = self.embed(images)
        errors = self.errors(images, self.reconstruct(embedded)).mean()
        return errors + self.surprise(embedded.detach()).mean()


class Scored(nn.Module):
    """What is exported: pixels → score and map of surprise.

    Parameters
    ----------
    network : PatchDensity
    size : int
        Side of the images.
    smoothing : float
        Of the map, in model pixels.
    score : {"reconstruction", "density"}
        The mean reconstruction error, or the peak of the map.
    least : float
        Subtracted from the surprise, so that it starts about zero.
    """

    def __init__(self, network: PatchDensity, size: int, smoothing: float, score: str, least: float) -> None:
        super().__init__()
        self.network, self.score, self.least = network, score, least
        self.peak = Peak(network.side, size, smoothing)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, S, S, 3) in 0…255 → scores (n,) and surprise (n, S / patch, S / patch)."""
        images = scaled(pixels)
        embedded = self.network.embed(images)
        side = self.network.side
        surprise = self.network.surprise(embedded).reshape(-1, side, side) - self.least
        if self.score == "density":
            return self.peak(surprise), surprise
        return self.network.errors(images, self.network.reconstruct(embedded)).flatten(1).mean(1), surprise
