"""How an image is compared with its reconstruction: one map of errors, for training and for scoring alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from offnominal.nets.perceptual import ContentLoss
from offnominal.nets.ssim import ssim

WINDOW = 11
LEAST = 0.05
"""Share of a level's mean deviation below which a channel's counts as that."""


def scaled(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (n, S, S, 3) in 0…255 → images (n, 3, S, S) in [−1, 1]."""
    return pixels.permute(0, 3, 1, 2) / 127.5 - 1


class Squared(nn.Module):
    """Squared difference, averaged over channels (the loss l2)."""

    def forward(self, images: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) twice → (n, h, w)."""
        return (images - made).square().mean(1)


class Absolute(nn.Module):
    """Absolute difference, averaged over channels (the loss l1)."""

    def forward(self, images: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) twice → (n, h, w)."""
        return (images - made).abs().mean(1)


class Structural(nn.Module):
    """One minus the structural similarity, averaged over channels (Bergmann et al., 2019)."""

    def forward(self, images: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) twice → (n, h, w); the border sees itself mirrored."""
        around = [WINDOW // 2] * 4
        one, two = (functional.pad(each, around, mode="reflect") for each in (images, made))
        return 1 - ssim(one, two, span=2.0, window=WINDOW).mean(1)


class Described(nn.Module):
    """A frozen encoder's levels of images in [−1, 1].

    Parameters
    ----------
    encoder : module
        Takes pixels (n, S, S, 3) in 0…255, gives a list of (n, c, h, w).
    deviations : list of (c,) tensors
        What each channel of each level is divided by, so that none drowns the others.
    """

    def __init__(self, encoder: nn.Module, deviations: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.encoder = encoder
        for number, deviation in enumerate(deviations):
            least = max(LEAST * float(deviation.mean()), 1e-3)
            self.register_buffer(f"rate{number}", 1 / deviation.clamp_min(least).reshape(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """(n, 3, S, S) → a list of (n, c, h, w)."""
        levels: list[torch.Tensor] = self.encoder(((images + 1) * 127.5).permute(0, 2, 3, 1))
        return [level * self.get_buffer(f"rate{number}") for number, level in enumerate(levels)]


class Perceptual(nn.Module):
    """Squared difference of deep features: averaged over channels, and over the levels on the finest grid.

    Parameters
    ----------
    described : Described
    """

    def __init__(self, described: nn.Module) -> None:
        super().__init__()
        self.content = ContentLoss(described)

    def forward(self, images: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """(n, 3, S, S) twice → (n, h, w), of the finest level's size."""
        first, *rest = self.content.maps(images, made)
        total = first
        for level in rest:
            total = total + functional.interpolate(
                level.unsqueeze(1), size=first.shape[1:], mode="bilinear", align_corners=False
            ).squeeze(1)
        return total / (1 + len(rest))
