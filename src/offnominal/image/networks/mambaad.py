"""The networks of MambaAD (torch): fusion bottleneck, locality-enhanced state-space blocks, decoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from offnominal.image.maps import operator
from offnominal.nets.scan_order import eight_directions, inverse
from offnominal.nets.state_space import SelectiveScan


class ScanBlock(nn.Module):
    """A selective scan of the grid in several directions, gated (hybrid state-space block, section 3.3).

    Parameters
    ----------
    width : int
        Channels.
    side : (rows, columns)
        Of the grid.
    scan : str
        Order along which the grid is scanned, see `scan_order`.
    directions : int
        1, 2, 4 or 8 of `eight_directions`; from 2 on half of them run backwards.
    state : int
        Numbers of state a channel.
    """

    order: torch.Tensor
    back: torch.Tensor

    def __init__(self, width: int, side: tuple[int, int], scan: str, directions: int, state: int) -> None:
        super().__init__()
        half = max(1, directions // 2)
        chosen = [*range(half), *range(4, 4 + directions // 2)][:directions]
        order = eight_directions(scan, *side)[chosen]
        self.register_buffer("order", torch.from_numpy(np.ascontiguousarray(order)))
        self.register_buffer("back", torch.from_numpy(inverse(order)))
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, 2 * width)
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.scan = SelectiveScan(width, state, directions=directions)
        self.norm_out = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, h, w, width) → the same shape."""
        n, height, columns, width = maps.shape
        value, gate = self.into(self.norm(maps)).chunk(2, dim=-1)
        value = (
            functional.silu(self.local(value.permute(0, 3, 1, 2))).permute(0, 2, 3, 1).reshape(n, -1, width)
        )
        scanned = self.scan(value[:, self.order])
        grids = [scanned[:, way][:, self.back[way]] for way in range(len(self.order))]
        mixed = self.norm_out(torch.stack(grids).sum(0)).reshape(n, height, columns, width)
        given: torch.Tensor = maps + self.out(mixed * functional.silu(gate))
        return given


def _local(width: int, kernel: int) -> nn.Sequential:
    """1 × 1, depth-wise, 1 × 1 convolution."""
    layers: list[nn.Module] = []
    for convolution in (
        nn.Conv2d(width, width, 1),
        nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width),
        nn.Conv2d(width, width, 1),
    ):
        layers += [convolution, nn.InstanceNorm2d(width), nn.SiLU()]
    return nn.Sequential(*layers)


class LocalityBlock(nn.Module):
    """Global scans beside local convolutions (locality-enhanced state-space block, section 3.2).

    Parameters
    ----------
    width, side, scan, directions, state
        As in `ScanBlock`.
    cascade : int
        Scan blocks one after another.
    local : tuple of int
        Kernels of the parallel depth-wise branches; () for none.
    """

    def __init__(
        self,
        width: int,
        side: tuple[int, int],
        scan: str,
        directions: int,
        state: int,
        cascade: int,
        local: Sequence[int],
    ) -> None:
        super().__init__()
        self.scans = nn.Sequential(*(ScanBlock(width, side, scan, directions, state) for _ in range(cascade)))
        self.local = nn.ModuleList(_local(width, kernel) for kernel in local)
        self.join = nn.Conv2d(width * (1 + len(local)), width, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, width, h, w) → the same shape."""
        found = [
            self.scans(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
            *(branch(maps) for branch in self.local),
        ]
        given: torch.Tensor = maps + self.join(torch.cat(found, dim=1))
        return given


class Fusion(nn.Module):
    """All levels brought by strided convolutions to half the coarsest grid, and joined (half-FPN bottleneck).

    Parameters
    ----------
    shapes : sequence of (h, w, c)
        Of the levels, fine to coarse.
    width : int
        Channels that come out.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], width: int) -> None:
        super().__init__()
        self.side = max(2, shapes[-1][0] // 2), max(2, shapes[-1][1] // 2)
        self.ways = nn.ModuleList()
        for height, _, channels in shapes:
            layers: list[nn.Module] = []
            given = channels
            while height > self.side[0]:
                layers += [nn.Conv2d(given, width, 3, 2, 1), nn.InstanceNorm2d(width, affine=True), nn.ReLU()]
                given, height = width, (height + 1) // 2
            self.ways.append(nn.Sequential(*layers))
        self.join = nn.Conv2d(width * len(shapes), width, 1)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Levels (n, c, h, w) → (n, width, rows, columns)."""
        brought = [
            functional.interpolate(way(level), size=self.side, mode="bilinear", align_corners=False)
            for way, level in zip(self.ways, levels, strict=True)
        ]
        joined: torch.Tensor = self.join(torch.cat(brought, dim=1))
        return joined


class Decoder(nn.Module):
    """Bottleneck and pyramid of blocks that give every level back, coarse to fine.

    Parameters
    ----------
    shapes : sequence of (h, w, c)
        Of the levels, fine to coarse.
    widths : sequence of int
        Channels inside: of the bottleneck, then of each level from coarse to fine.
    depths : sequence of int
        Blocks at the same places.
    scan, directions, state, cascade, local
        As in `LocalityBlock`.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        scan: str,
        directions: int,
        state: int,
        cascade: int,
        local: Sequence[int],
    ) -> None:
        super().__init__()
        self.fuse = Fusion(shapes, widths[0])
        self.sides: list[tuple[int, int]] = [self.fuse.side, *((h, w) for h, w, _ in reversed(shapes))]
        before = [widths[0], *widths[:-1]]
        self.enter = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(before, widths, strict=True))
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(LocalityBlock(width, side, scan, directions, state, cascade, local) for _ in range(depth))
            )
            for width, side, depth in zip(widths, self.sides, depths, strict=True)
        )
        outputs = [shape[-1] for shape in reversed(shapes)]
        self.leave = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths[1:], outputs, strict=True))

    def forward(self, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Levels (n, c, h, w), fine to coarse → their reconstructions, in the same order."""
        value = self.fuse(levels)
        made: list[torch.Tensor] = []
        for number, (side, enter, stage) in enumerate(zip(self.sides, self.enter, self.stages, strict=True)):
            if number:
                value = functional.interpolate(value, size=side, mode="bilinear", align_corners=False)
            value = stage(enter(value))
            if number:
                made.append(self.leave[number - 1](value))
        return made[::-1]


class Scored(nn.Module):
    """What is exported: 1 − cosine of every level and its reconstruction, summed on the finest grid.

    Parameters
    ----------
    standards : sequence of Standard
        One a level.
    decoder : Decoder
    side : int
        Of the image, in pixels.
    smoothing : float
        Of the map whose largest value is the score.
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, standards: Sequence[nn.Module], decoder: Decoder, side: int, smoothing: float) -> None:
        super().__init__()
        self.standards, self.decoder = nn.ModuleList(standards), decoder
        self.grid = decoder.sides[-1]
        rows, columns = (operator(length, side, side, smoothing) for length in self.grid)
        self.register_buffer("rows", torch.from_numpy(rows.copy()))
        self.register_buffer("columns", torch.from_numpy(columns.T.copy()))

    def forward(self, *levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Levels (n, h, w, c) → scores (n,) and grids (n, h, w)."""
        given = standardised(self.standards, levels)
        total = torch.zeros(())
        for level, made in zip(given, self.decoder(given), strict=True):
            apart = 1 - functional.cosine_similarity(level, made, dim=1, eps=1e-6)
            total = total + functional.interpolate(
                apart.unsqueeze(1), size=self.grid, mode="bilinear", align_corners=False
            )
        grid = total.squeeze(1)
        return (self.rows @ (grid @ self.columns)).flatten(1).amax(1), grid


def standardised(standards: Iterable[nn.Module], levels: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Levels (n, h, w, c) → (n, c, h, w), each channel with the training images' mean 0 and deviation 1."""
    return [standard(level).permute(0, 3, 1, 2) for standard, level in zip(standards, levels, strict=True)]
