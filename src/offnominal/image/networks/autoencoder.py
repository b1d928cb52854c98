"""What auto-encoders on pixels export: an image, its reconstruction, and the error between them."""

from __future__ import annotations

import torch
from torch import nn

from offnominal.image.networks.errors import scaled


class Reconstruction(nn.Module):
    """Pixels → score and map of errors.

    Parameters
    ----------
    encoder, decoder : module
        Images (n, 3, S, S) in [−1, 1] → code → images.
    error : module
        Of `errors`.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, error: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.error = encoder, decoder, error

    def errors(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (n, S, S, 3) in 0…255 → errors (n, h, w)."""
        images = scaled(pixels)
        found: torch.Tensor = self.error(images, self.decoder(self.encoder(images)))
        return found

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (n,), the mean error, and errors (n, h, w)."""
        errors = self.errors(pixels)
        return errors.flatten(1).mean(1), errors
