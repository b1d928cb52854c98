"""Teacher, student and auto-encoder of EfficientAD in one network, and the losses that train it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from offnominal.nets.patch_description import BORDER

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEAST = 0.01
"""Deviation of a teacher's output below which it counts as this; one that never changes tells nothing."""


class Pixels(nn.Module):
    """Pixels (n, S, S, 3) in 0…255 as networks take them: (n, 3, S, S), normalised as on ImageNet."""

    mean: torch.Tensor
    rate: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("rate", 1 / (255 * torch.tensor(DEVIATION).reshape(1, 3, 1, 1)))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, S, S, 3) → (n, 3, S, S)."""
        return (pixels.permute(0, 3, 1, 2) - self.mean) * self.rate


class Normalised(nn.Module):
    """A network's channels brought to mean 0 and deviation 1 by constants.

    Parameters
    ----------
    network : module
        Gives (n, c, h, w).
    mean, deviation : (c,) tensors
    """

    mean: torch.Tensor
    rate: torch.Tensor

    def __init__(self, network: nn.Module, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("rate", 1 / deviation.clamp_min(LEAST).reshape(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """What the network gives, normalised."""
        described: torch.Tensor = self.network(images)
        return (described - self.mean) * self.rate


class Branches(nn.Module):
    """Pixels → a squared distance a cell, for each branch.

    Parameters
    ----------
    teacher : module
        Normalised.
    student : module
        Twice the teacher's outputs with an auto-encoder, as many without.
    autoencoder : module or None
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, autoencoder: nn.Module | None) -> None:
        super().__init__()
        self.pixels = Pixels()
        self.teacher, self.student, self.autoencoder = teacher, student, autoencoder

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Maps (n, cells, cells): student from teacher and, where there is one, from auto-encoder."""
        images = self.pixels(pixels)
        described, student = self.teacher(images), self.student(images)
        width = described.shape[1]
        maps = [(described - student[:, :width]).square().mean(1)]
        if self.autoencoder is not None:
            maps.append((self.autoencoder(images) - student[:, width:]).square().mean(1))
        return maps


class Fused(nn.Module):
    """What is exported: the branches' maps brought to one scale and averaged (section 3.4).

    Parameters
    ----------
    branches : Branches
    spans : sequence of float
        Of each branch, the distance that becomes 0.1: between two quantiles of held-out normals.
    """

    def __init__(self, branches: Branches, spans: Sequence[float]) -> None:
        super().__init__()
        self.branches = branches
        self.rates = [0.1 / span / len(spans) for span in spans]

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (n,) and maps (n, S / 4, S / 4); the border, where no cell has its centre, repeats."""
        fused = torch.zeros(())
        for found, rate in zip(self.branches(pixels), self.rates, strict=True):
            fused = fused + found * rate
        padded = nn.functional.pad(fused[:, None], [BORDER] * 4, mode="replicate")
        # an index, for exported squeeze asks for its shape when it runs
        return fused.flatten(1).amax(1), padded[:, 0]


def hardest(errors: torch.Tensor, quantile: float) -> torch.Tensor:
    """Mean of the errors at or above their quantile, over all elements; 0 takes the mean of all."""
    count = max(1, errors.numel() - int(quantile * errors.numel()))
    return errors.flatten().topk(count, sorted=False).values.mean()
