"""Normalising flow of Glow-like steps (Kingma & Dhariwal 2018), on vectors or on every place of a map.

Inputs are (n, c) or (n, c, …places…). Log-determinants and log-likelihoods are (n,) or (n, …places…): the sum
over places is the exact one of the whole map, and each place's share localises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from offnominal.nets.seeding import seeded

Subnet = Callable[[int, int], nn.Module]


def _spread(vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(c,) → (1, c, 1, …), to work on all places of ``like``."""
    return vector.reshape(1, -1, *[1] * (like.ndim - 2))


class ActNorm(nn.Module):
    """Scale and shift a channel, set by the first training batch so that it comes out standardised.

    Parameters
    ----------
    channels : int
    """

    ready: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    def _start(self, values: torch.Tensor) -> None:
        over = [axis for axis in range(values.ndim) if axis != 1]
        with torch.no_grad():
            deviation = values.std(over, correction=0).clamp(min=1e-6)
            self.log_scale.copy_(-deviation.log())
            self.shift.copy_(-values.mean(over))
            self.ready.fill_(True)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Values to latents, and the log-determinant."""
        if self.training and not bool(self.ready):
            self._start(values)
        scaled = (values + _spread(self.shift, values)) * _spread(self.log_scale, values).exp()
        return scaled, self.log_scale.sum().expand(values[:, 0].shape)

    def inverse(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to values."""
        return latents * _spread(-self.log_scale, latents).exp() - _spread(self.shift, latents)


class Permutation(nn.Module):
    """A fixed order of channels: reversed, or drawn from a seed.

    Parameters
    ----------
    channels : int
    seed : int, optional
        None reverses.
    """

    order: torch.Tensor

    def __init__(self, channels: int, seed: int | None = None) -> None:
        super().__init__()
        if seed is None:
            order = torch.arange(channels - 1, -1, -1)
        else:
            with seeded(seed, "permutation"):
                order = torch.randperm(channels)
        self.register_buffer("order", order)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Values to latents, and the log-determinant, which is 0."""
        return values[:, self.order], torch.zeros_like(values[:, 0])

    def inverse(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to values."""
        return latents[:, self.order.argsort()]


class AffineCoupling(nn.Module):
    """One part of the channels scales and shifts the rest (Dinh et al. 2017).

    Parameters
    ----------
    channels : int
        At least 2. The first half, rounded down, stays as it is.
    subnet : callable
        ``subnet(taken, given)`` makes the network from the first half, and the context behind it, to scales
        and shifts.
    context : int, default 0
        Channels of a condition that is given beside the values.
    limit : float, default 1.9
        Log-scales are held within ±limit by an arc tangent, so that no step can explode.
    """

    def __init__(self, channels: int, subnet: Subnet, *, context: int = 0, limit: float = 1.9) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"a coupling needs at least 2 channels, got {channels}")
        self.kept = channels // 2
        self.limit = limit
        self.net = subnet(self.kept + context, 2 * (channels - self.kept))

    def _affine(self, kept: torch.Tensor, context: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        taken = kept if context is None else torch.cat([kept, context], dim=1)
        raw, shift = self.net(taken).chunk(2, dim=1)
        return self.limit * (2 / math.pi) * torch.atan(raw / self.limit), shift

    def forward(
        self, values: torch.Tensor, context: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values to latents, and the log-determinant."""
        kept, moved = values[:, : self.kept], values[:, self.kept :]
        log_scale, shift = self._affine(kept, context)
        return torch.cat([kept, moved * log_scale.exp() + shift], dim=1), log_scale.sum(1)

    def inverse(self, latents: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Latents to values."""
        kept, moved = latents[:, : self.kept], latents[:, self.kept :]
        log_scale, shift = self._affine(kept, context)
        return torch.cat([kept, (moved - shift) * (-log_scale).exp()], dim=1)


class Flow(nn.Module):
    """Steps one after another, to a standard normal.

    Parameters
    ----------
    steps : sequence of modules
        Of `ActNorm`, `Permutation`, `AffineCoupling`, or anything with their two methods.
    """

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(
        self, values: torch.Tensor, context: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values to latents of the same shape, and log-determinants."""
        total = torch.zeros_like(values[:, 0])
        for step in self.steps:
            conditional = isinstance(step, AffineCoupling)
            values, change = step(values, context) if conditional else step(values)
            total = total + change
        return values, total

    def inverse(self, latents: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Latents to values."""
        for step in reversed(self.steps):
            conditional = isinstance(step, AffineCoupling)
            undo = cast(Callable[..., torch.Tensor], step.inverse)
            latents = undo(latents, context) if conditional else undo(latents)
        return latents

    def log_likelihood(self, values: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Log-density in nats, of each vector or each place."""
        latents, change = self(values, context)
        normal = -(latents.square().sum(1) + math.log(2 * math.pi) * latents.shape[1]) / 2
        likelihood: torch.Tensor = normal + change
        return likelihood


def glow(channels: int, depth: int, subnet: Subnet, *, context: int = 0, seed: int = 0) -> Flow:
    """Make the usual flow: ``depth`` times act-norm, a drawn permutation, an affine coupling."""
    steps: list[nn.Module] = []
    for number in range(depth):
        steps += [
            ActNorm(channels),
            Permutation(channels, seed + number),
            AffineCoupling(channels, subnet, context=context),
        ]
    return Flow(steps)
