"""Estimator of PNI, the network of its neighbourhood prior, and its refiner."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from offnominal.nets.convolution import ConvDecoder, ConvEncoder

SHARPNESS = 0.99
"""γ of the appearance likelihood exp(−γ‖φ − c‖)."""
TEMPERATURE = 2.0
"""Of the neighbourhood prior's soft-max."""
SHUT = 1e9
"""Added to the distance of a member that a prior does not admit."""


class Neighbourhood(nn.Module):
    """Tell the nearest coreset member of a patch from the window around it, without the patch itself.

    Parameters
    ----------
    scale : module
        What is done to the features first.
    channels : int
        Of the features.
    window : int
        Side of the window, odd; places outside the image count as zeros.
    members : int
        Of the distribution coreset.
    reduced : int
        Channels of a patch that the window is looked at in: a linear map shared by all its places.
    hidden, depth : int
        Width and number of the layers.
    dropout : float
    """

    hole: torch.Tensor

    def __init__(
        self,
        scale: nn.Module,
        channels: int,
        window: int,
        members: int,
        *,
        reduced: int,
        hidden: int,
        depth: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.reduce = nn.Conv2d(channels, reduced, 1, bias=False) if reduced < channels else nn.Identity()
        self.window = nn.Conv2d(min(reduced, channels), hidden, window, padding=window // 2, bias=False)
        hole = torch.ones(1, 1, window, window)
        hole[..., window // 2, window // 2] = 0
        self.register_buffer("hole", hole)
        layers: list[nn.Module] = [nn.BatchNorm2d(hidden), nn.ReLU(), nn.Dropout(dropout)]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(hidden, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()]
            layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Conv2d(hidden, members, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, h, w, c) → logits (n, members, h, w)."""
        reduced = self.reduce(self.scale(features).permute(0, 3, 1, 2))
        weight = self.window.weight * self.hole
        around = nn.functional.conv2d(reduced, weight, padding=self.window.padding)
        logits: torch.Tensor = self.layers(around)
        return logits


class Estimator(nn.Module):
    """−log likelihood of each patch, by the priors that admit coreset members.

    Parameters
    ----------
    bank : (m, c) tensor
        The embedding coreset; its first rows are the distribution coreset.
    owners : (m,) int64 tensor
        Nearest member of the distribution coreset of each row.
    position : (h · w, d) tensor or None
        p(c | position) of the distribution coreset's members.
    neighbourhood : module or None
        Logits of p(c | neighbourhood).
    """

    bank: torch.Tensor
    shift: torch.Tensor
    halves: torch.Tensor
    owners: torch.Tensor
    shut: torch.Tensor

    def __init__(
        self,
        bank: torch.Tensor,
        owners: torch.Tensor,
        position: torch.Tensor | None,
        neighbourhood: Neighbourhood | None,
    ) -> None:
        super().__init__()
        self.register_buffer("shift", bank.mean(0))
        self.register_buffer("bank", bank - self.shift)
        self.register_buffer("halves", self.bank.square().sum(1) / 2)
        # a thousandth of a member's length or less is rounding
        self.ground = 1e-6 * float(self.halves.mean()) + 1e-12
        self.register_buffer("owners", owners)
        self.least = 0.5 / (int(owners.max()) + 1)  # 1 / (2 |C|), the threshold of a prior
        self.placed = position is not None
        if position is not None:
            self.register_buffer("shut", self._shut(position))
        self.neighbourhood = neighbourhood

    def _shut(self, prior: torch.Tensor) -> torch.Tensor:
        """What is added for members that a prior (…, d) does not admit; its largest is always admitted."""
        return (prior <= self.least) * SHUT

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, h, w, c) → (n, h, w)."""
        rows = features.reshape(-1, features.shape[-1]) - self.shift
        closeness = self.halves - rows @ self.bank.T  # half squared distance, but for the row's own part
        gates: list[torch.Tensor] = []
        if self.placed:
            gates.append(self.shut.repeat(len(features), 1))
        if self.neighbourhood is not None:
            prior = (self.neighbourhood(features) / TEMPERATURE).softmax(1)
            gates.append(self._shut(prior).permute(0, 2, 3, 1).flatten(0, 2))
        found = [self._distance(rows, closeness + gate[:, self.owners]) for gate in gates]
        if not found:
            found = [self._distance(rows, closeness)]
        scores: torch.Tensor = SHARPNESS * torch.stack(found).mean(0)
        return scores.reshape(features.shape[:-1])

    def _distance(self, rows: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
        """Distance of rows to the member of least cost, by differences: products lose digits."""
        squared = (rows - self.bank[cost.argmin(1)]).square().sum(1)
        return (squared + self.ground).sqrt()


class Refiner(nn.Module):
    """An image and its map → a map that follows the image's shapes and edges (section 3.4 of the paper).

    Parameters
    ----------
    side : int
        Of both, divisible by two as often as there are widths.
    widths : sequence of int
        Channels of the levels of each of the two encoders.
    """

    def __init__(self, side: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.side = side
        self.image = ConvEncoder(3, widths, (side, side))
        self.map = ConvEncoder(1, widths, (side, side))
        self.decoder = ConvDecoder(1, [2 * width for width in widths], (side, side), skips=True)

    def forward(self, pixels: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        """Pixels (n, side, side, 3) in 0…255 and maps (n, side, side) → logits (n, side, side)."""
        images = pixels.permute(0, 3, 1, 2) / 127.5 - 1
        pairs = zip(self.image.features(images), self.map.features(found[:, None]), strict=True)
        joined = [torch.cat(pair, 1) for pair in pairs]
        refined: torch.Tensor = self.decoder(joined[-1], joined)
        return refined[:, 0]


def refinement_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Loss of values and of gradients: squared differences of map (n, s, s) and mask, and of their slopes."""
    apart = logits.sigmoid() - mask
    down, right = apart.diff(dim=1), apart.diff(dim=2)
    return apart.square().mean() + down.square().mean() + right.square().mean()


class Scorer(nn.Module):
    """What is exported: features, and with a refiner the pixels too → score (n,) and map (n, h, w).

    Parameters
    ----------
    estimator : Estimator
    sides : pair of tensors
        Matrices (S, h) and (S, w) that enlarge and smooth the map for the image's score.
    refiner : Refiner or None
    enlarge : pair of tensors or None
        Matrices (side, h) and (side, w) that bring the map to the refiner's size.
    unit : float
        Value of the map that counts as one to the refiner.
    share : float
        Of the refined map in the result.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    down: torch.Tensor
    across: torch.Tensor

    def __init__(
        self,
        estimator: Estimator,
        sides: tuple[torch.Tensor, torch.Tensor],
        refiner: Refiner | None = None,
        enlarge: tuple[torch.Tensor, torch.Tensor] | None = None,
        unit: float = 1.0,
        share: float = 0.0,
    ) -> None:
        super().__init__()
        self.estimator = estimator
        self.register_buffer("rows", sides[0])
        self.register_buffer("columns", sides[1])
        self.refiner = refiner
        if enlarge is not None:
            self.register_buffer("down", enlarge[0])
            self.register_buffer("across", enlarge[1])
        self.unit = unit
        self.share = share

    def coarse(self, features: torch.Tensor) -> torch.Tensor:
        """The map at the refiner's size, in its units."""
        enlarged: torch.Tensor = self.down @ self.estimator(features) @ self.across.T
        return enlarged / self.unit

    def small(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (n, S, S, 3) at the refiner's size."""
        assert self.refiner is not None
        planes = nn.functional.interpolate(
            pixels.permute(0, 3, 1, 2), size=(self.refiner.side,) * 2, mode="bilinear", align_corners=False
        )
        return planes.permute(0, 2, 3, 1)

    def forward(
        self, features: torch.Tensor, pixels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and maps."""
        if self.refiner is None or pixels is None:
            found = self.estimator(features)
        else:
            coarse = self.coarse(features)
            refined = self.refiner(self.small(pixels), coarse).sigmoid()
            found = self.unit * ((1 - self.share) * coarse + self.share * refined)
        smooth = self.rows @ found @ self.columns.T
        return smooth.flatten(1).amax(1), found
