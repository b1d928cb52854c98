"""Denoising auto-encoder that is trained and judged by deep features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from offnominal.image.networks.errors import Perceptual, scaled
from offnominal.image.networks.peak import Peak
from offnominal.nets.convolution import ConvDecoder, ConvEncoder


class Denoiser(nn.Module):
    """Clean images from noisy ones, through a narrow code.

    Parameters
    ----------
    widths : sequence of int
        Channels of each level, the code's last.
    size : int
        Side of the images.
    perceptual : Perceptual
        The content loss; frozen.
    content, pixels : float
        Weights of the content loss and of the mean squared error.
    noise : float
        Deviation of the noise on images in [−1, 1].
    """

    def __init__(
        self,
        widths: Sequence[int],
        size: int,
        perceptual: Perceptual,
        *,
        content: float,
        pixels: float,
        noise: float,
    ) -> None:
        super().__init__()
        self.encoder = ConvEncoder(3, widths, (size, size))
        self.decoder = ConvDecoder(3, widths, (size, size))
        self.perceptual = perceptual
        self.content, self.pixels, self.noise = content, pixels, noise

    def loss(self, given: torch.Tensor) -> torch.Tensor:
        """Of pixels (n, S, S, 3): content loss and mean squared error against the images without noise."""
        images = scaled(given)
        made = self.decoder(self.encoder(images + self.noise * torch.randn_like(images)))
        loss: torch.Tensor = self.pixels * (images - made).square().mean()
        if self.content:
            loss = loss + self.content * self.perceptual(images, made).mean()
        return loss


class Scored(nn.Module):
    """What is exported: pixels → peak and map of the difference between image and reconstruction.

    Parameters
    ----------
    denoiser : Denoiser
    error : module
        Of `errors`: of deep features, or of pixels (ablation).
    grid, size : int
        Sides of the error's map and of the image.
    smoothing : float
        In model pixels.
    """

    def __init__(self, denoiser: Denoiser, error: nn.Module, grid: int, size: int, smoothing: float) -> None:
        super().__init__()
        self.encoder, self.decoder, self.error = denoiser.encoder, denoiser.decoder, error
        self.peak = Peak(grid, size, smoothing)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, S, S, 3) in 0…255 → scores (n,) and maps (n, grid, grid)."""
        images = scaled(pixels)
        errors = self.error(images, self.decoder(self.encoder(images)))
        return self.peak(errors), errors
