"""What the variational auto-encoder exports, by score."""

from __future__ import annotations

import torch
from torch import nn

from offnominal.image.networks.errors import scaled
from offnominal.nets.pullback import pullback
from offnominal.nets.vae import VAE, kl

SCORES = ("reconstruction", "elbo_gradient", "kl_gradient", "reconstruction_gradient", "combined")


class VariationalScores(nn.Module):
    """Pixels → score and map.

    Parameters
    ----------
    vae : VAE
        Of a `ConvEncoder` and a `ConvDecoder`.
    beta : float
        Weight of the divergence beside the mean squared error.
    score : str
        One of `SCORES`.
    """

    def __init__(self, vae: VAE, beta: float, score: str) -> None:
        super().__init__()
        self.vae, self.beta, self.score = vae, beta, score
        encoder, decoder = vae.encoder, vae.decoder
        self.down = nn.Sequential(*encoder.levels, encoder.head)  # type: ignore[misc, arg-type]
        self.up = nn.Sequential(decoder.head, *decoder.levels, decoder.last)  # type: ignore[misc, arg-type]

    def loss(self, pixels: torch.Tensor) -> torch.Tensor:
        """Negative evidence lower bound of a batch, a pixel: mean squared error and weighted divergence."""
        images = scaled(pixels)
        made, mean, log_variance = self.vae(images)
        error: torch.Tensor = (images - made).square().mean()
        return error + self.beta * kl(mean, log_variance).mean()

    def gradients(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Differences (n, 3, S, S), and gradients by the images of squared error and divergence."""
        both, back = pullback(self.down, images)
        mean, raw = both.chunk(2, dim=1)
        log_variance = raw.clamp(-20.0, 20.0)
        made, forth = pullback(self.up, mean)
        apart = images - made
        each = 2 / images[0].numel()
        by_code = forth(-apart)
        by_error = each * (apart + back(torch.cat([by_code, torch.zeros_like(by_code)], 1)))
        inside = (raw.abs() < 20.0).to(raw.dtype)
        by_divergence = back(torch.cat([mean, (log_variance.exp() - 1) / 2 * inside], 1))
        return apart, by_error, by_divergence

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (n,), the mean of the map, and maps (n, S, S)."""
        images = scaled(pixels)
        if self.score == "reconstruction":
            found = (images - self.vae.decoder(self.vae.encode(images)[0])).square().mean(1)
            return found.flatten(1).mean(1), found
        apart, by_error, by_divergence = self.gradients(images)
        if self.score == "kl_gradient":
            found = by_divergence.abs().mean(1)
        elif self.score == "reconstruction_gradient":
            found = by_error.abs().mean(1)
        elif self.score == "elbo_gradient":
            found = (by_error + self.beta * by_divergence).abs().mean(1)
        else:
            found = apart.abs().mean(1) * by_divergence.abs().mean(1)
        return found.flatten(1).mean(1), found
