"""Variational auto-encoder whose decoder an adversary judges."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from offnominal.image.networks.errors import scaled
from offnominal.image.networks.peak import Peak
from offnominal.nets.convolution import ConvDecoder, ConvEncoder
from offnominal.nets.vae import VAE, kl


class Adversary(nn.Module):
    """Tells images from made ones; the layer before its verdict is what likeness is measured on.

    Parameters
    ----------
    widths : sequence of int
        Channels of its levels.
    size : int
        Side of the images.
    """

    def __init__(self, widths: Sequence[int], size: int) -> None:
        super().__init__()
        self.body = ConvEncoder(3, widths, (size, size), norm="group")
        self.head = nn.Conv2d(widths[-1], 1, self.body.shape[1:])

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3, S, S) → logits (n,) that they are real, and features (n, c, h, w)."""
        features = self.body.features(images)
        return self.head(features[-1]).flatten(), features[-2]


class AdversarialVAE(nn.Module):
    """VAE and adversary with their losses (Larsen et al., 2016); the VAE alone is exported.

    Parameters
    ----------
    widths : sequence of int
        Channels of the levels of all three networks, at least two.
    size : int
        Side of the images.
    latent : int
        Length of the code.
    beta, likeness, adversarial : float
        Weights, beside the mean squared error, of the divergence in nats, of the squared difference of the
        adversary's features, and of the adversary's verdict.
    """

    def __init__(
        self,
        widths: Sequence[int],
        size: int,
        latent: int,
        *,
        beta: float,
        likeness: float,
        adversarial: float,
    ) -> None:
        super().__init__()
        self.vae = VAE(
            ConvEncoder(3, widths, (size, size), latent=2 * latent),
            ConvDecoder(3, widths, (size, size), latent=latent),
        )
        self.adversary = Adversary(widths, size)
        self.beta, self.likeness, self.adversarial = beta, likeness, adversarial

    def _faked(self, code: torch.Tensor) -> torch.Tensor:
        """Images of given codes and of as many that follow the prior; no gradient reaches the encoder."""
        code = code.detach()
        made: torch.Tensor = self.vae.decoder(torch.cat([code, torch.randn_like(code)]))
        return made

    def adversary_loss(self, pixels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of telling real from made."""
        images = scaled(pixels)
        with torch.no_grad():
            faked = self._faked(self.vae.encode(images)[0])
        real, fake = self.adversary(images)[0], self.adversary(faked)[0]
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    def loss(self, pixels: torch.Tensor) -> torch.Tensor:
        """What encoder and decoder minimise."""
        images = scaled(pixels)
        made, mean, log_variance = self.vae(images)
        loss: torch.Tensor = (images - made).square().mean() + self.beta * kl(mean, log_variance).mean()
        if self.likeness:
            with torch.no_grad():
                wanted = self.adversary(images)[1]
            loss = loss + self.likeness * (self.adversary(made)[1] - wanted).square().mean()
        if self.adversarial:
            verdict = self.adversary(self._faked(mean))[0]
            loss = loss + self.adversarial * functional.softplus(-verdict).mean()
        return loss


class Scored(nn.Module):
    """What is exported: pixels → the peak of the smoothed error, and errors.

    Parameters
    ----------
    vae : VAE
    size : int
        Side of the images.
    smoothing : float
        In model pixels.
    """

    def __init__(self, vae: VAE, size: int, smoothing: float) -> None:
        super().__init__()
        self.vae = vae
        self.peak = Peak(size, size, smoothing)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, S, S, 3) in 0…255 → scores (n,) and squared errors (n, S, S)."""
        images = scaled(pixels)
        errors = (images - self.vae.decoder(self.vae.encode(images)[0])).square().mean(1)
        return self.peak(errors), errors
