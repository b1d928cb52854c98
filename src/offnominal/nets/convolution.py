"""A convolutional encoder and its mirror, with or without a flat code, with or without skips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn


def _norm(kind: str, channels: int) -> nn.Module:
    makers: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: nn.BatchNorm2d(channels),
        "instance": lambda: nn.InstanceNorm2d(channels, affine=True),
        "group": lambda: nn.GroupNorm(math.gcd(8, channels), channels),
        "none": nn.Identity,
    }
    if kind not in makers:
        raise ValueError(f"norm must be {', '.join(makers)}; got {kind!r}")
    return makers[kind]()


def _stack(layers: Sequence[nn.Module], channels: int, norm: str, refine: int) -> nn.Sequential:
    """Layers that change the size, norm and ReLU, then ``refine`` 3 × 3 convolutions at that size."""
    parts = [*layers, _norm(norm, channels), nn.ReLU()]
    for _ in range(refine):
        parts += [nn.Conv2d(channels, channels, 3, padding=1), _norm(norm, channels), nn.ReLU()]
    return nn.Sequential(*parts)


def _code_shape(widths: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int]:
    step = 2 ** len(widths)
    if not widths or size[0] % step or size[1] % step:
        raise ValueError(f"an image of {size[0]} × {size[1]} cannot be halved {len(widths)} times; resize it")
    return widths[-1], size[0] // step, size[1] // step


class ConvEncoder(nn.Module):
    """Halve an image level by level; a flat code at the end where asked for.

    Parameters
    ----------
    channels : int
        Of the image.
    widths : sequence of int
        Channels of each level; a level halves rows and columns by a 4 × 4 convolution.
    size : (rows, columns)
        Of the image, divisible by two as often as there are levels.
    latent : int, optional
        Length of the flat code; None keeps the last level's feature map as the code.
    norm : {"batch", "instance", "group", "none"}
    refine : int, default 0
        Further 3 × 3 convolutions a level.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        size: tuple[int, int],
        *,
        latent: int | None = None,
        norm: str = "batch",
        refine: int = 0,
    ) -> None:
        super().__init__()
        self.shape = _code_shape(widths, size)
        before = (channels, *widths[:-1])
        self.levels = nn.ModuleList(
            _stack([nn.Conv2d(taken, given, 4, 2, 1)], given, norm, refine)
            for taken, given in zip(before, widths, strict=True)
        )
        whole = self.shape[0] * self.shape[1] * self.shape[2]
        self.head = nn.Identity() if latent is None else nn.Sequential(nn.Flatten(), nn.Linear(whole, latent))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, channels, rows, columns) → (n, latent), or the last level's map."""
        code: torch.Tensor = self.head(self.features(images)[-1])
        return code

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Map of every level, fine to coarse."""
        found = []
        for level in self.levels:
            images = level(images)
            found.append(images)
        return found


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`: same arguments, and the way back.

    Parameters
    ----------
    channels, widths, size, latent, norm, refine
        Those of the encoder; ``channels`` may be others, if something else than the image is to come out.
    skips : bool, default False
        Whether each level also takes the encoder's map of the same size, as in a U-Net.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        size: tuple[int, int],
        *,
        latent: int | None = None,
        norm: str = "batch",
        refine: int = 0,
        skips: bool = False,
    ) -> None:
        super().__init__()
        self.shape = _code_shape(widths, size)
        whole = self.shape[0] * self.shape[1] * self.shape[2]
        self.head = (
            nn.Identity()
            if latent is None
            else nn.Sequential(nn.Linear(latent, whole), nn.Unflatten(1, self.shape), nn.ReLU())
        )
        self.skips = skips
        upward = list(reversed(widths))
        after = [*upward[1:], upward[-1]]
        levels = []
        for number, (taken, given) in enumerate(zip(upward, after, strict=True)):
            joined = taken * 2 if skips and number else taken
            levels.append(_stack([nn.ConvTranspose2d(joined, given, 4, 2, 1)], given, norm, refine))
        self.levels = nn.ModuleList(levels)
        self.last = nn.Conv2d(after[-1], channels, 3, padding=1)

    def forward(self, code: torch.Tensor, features: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """Code, and with ``skips`` the encoder's maps → (n, channels, rows, columns), not bounded."""
        if self.skips and len(features) != len(self.levels):
            raise ValueError(
                f"{len(features)} maps for {len(self.levels)} levels; give encoder.features(images)"
            )
        value = self.head(code)
        for number, level in enumerate(self.levels):
            if self.skips and number:
                value = torch.cat([value, features[-1 - number]], dim=1)
            value = level(value)
        made: torch.Tensor = self.last(value)
        return made
