"""Variational auto-encoder (Kingma & Welling 2014) over any encoder and decoder."""

from __future__ import annotations

import torch
from torch import nn


def sample(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Draw codes by reparametrisation: the gradient reaches mean and variance."""
    return mean + torch.exp(log_variance / 2) * torch.randn_like(mean)


def kl(mean: torch.Tensor, log_variance: torch.Tensor, centre: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Kullback–Leibler divergence of a diagonal Gaussian from one of unit variance around ``centre``.

    Parameters
    ----------
    mean, log_variance : (n, d) tensors
    centre : tensor that broadcasts to (n, d), default 0
        Other centres pull classes to clusters of their own.

    Returns
    -------
    (n,) tensor, in nats
    """
    return ((mean - centre).square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2


class VAE(nn.Module):
    """An encoder that gives a mean and a log-variance, and a decoder.

    Parameters
    ----------
    encoder : module
        Gives (n, 2·d): the mean, then the log-variance. `ConvEncoder` with ``latent=2 * d`` does.
    decoder : module
        Takes (n, d).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance of codes, each (n, d); the latter is held within ±20."""
        mean, log_variance = self.encoder(inputs).chunk(2, dim=-1)
        return mean, log_variance.clamp(-20.0, 20.0)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reconstruction, mean and log-variance; the code is drawn in training and is the mean otherwise."""
        mean, log_variance = self.encode(inputs)
        code = sample(mean, log_variance) if self.training else mean
        return self.decoder(code), mean, log_variance
