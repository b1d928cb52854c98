"""Reverse distillation whose student is aligned over views, and a teacher that re-maps what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from offnominal.encoders import ImageEncoder
from offnominal.encoders.network import PIXELS, Add, Concat, Node, needed, sources
from offnominal.encoders.torch_network import to_torch
from offnominal.image.networks.mambaad import Fusion
from offnominal.image.networks.peak import Peak

KNOTS = 32
"""Intervals between the quantiles at which two distributions are matched."""

NARROW = 0.01
"""Share of a channel's deviation that counts as the least distance of two quantiles."""


class Residual(nn.Module):
    """Two 3 × 3 convolutions beside the identity.

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, width, h, w) → the same shape."""
        return functional.relu(maps + self.layers(maps))


class Student(nn.Module):
    """Bottleneck of all levels, and a decoder that mirrors the teacher (Deng & Li, CVPR 2022).

    Parameters
    ----------
    shapes : sequence of (h, w, c)
        Of the teacher's levels, fine to coarse.
    width : int
        Channels of the bottleneck; each finer level has three quarters as many.
    depth : int
        Residual blocks a stage.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], width: int, depth: int) -> None:
        super().__init__()
        self.fuse = Fusion(shapes, width)
        self.code = nn.Sequential(*(Residual(width) for _ in range(depth)))
        self.sides = [(h, w) for h, w, _ in reversed(shapes)]
        widths = [max(8, int(width * 0.75**number)) for number in range(len(shapes) + 1)]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(taken, given, 3, padding=1, bias=False),
                nn.BatchNorm2d(given),
                nn.ReLU(),
                *(Residual(given) for _ in range(depth)),
            )
            for taken, given in pairwise(widths)
        )
        outputs = [shape[-1] for shape in reversed(shapes)]
        self.leave = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths[1:], outputs, strict=True))

    def forward(self, levels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Levels (n, c, h, w), fine to coarse → code, and reconstructions in the same order."""
        value: torch.Tensor = self.code(self.fuse(levels))
        code, made = value, []
        for side, stage, leave in zip(self.sides, self.stages, self.leave, strict=True):
            value = functional.interpolate(value, size=side, mode="bilinear", align_corners=False)
            value = stage(value)
            made.append(leave(value))
        return code, made[::-1]


def distances(levels: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """One minus cosine at each place: (n, h, w) a level."""
    return [
        1 - functional.cosine_similarity(level, each, dim=1, eps=1e-6)
        for level, each in zip(levels, made, strict=True)
    ]


def alignment(one: torch.Tensor, views: Sequence[torch.Tensor]) -> torch.Tensor:
    """One minus cosine of whole maps with those of views, averaged."""
    apart = [1 - functional.cosine_similarity(one.flatten(1), view.flatten(1), dim=1) for view in views]
    return torch.stack(apart).mean()


class Matching(nn.Module):
    """Re-map values of each channel towards the distribution of a reference's.

    Exact feature distribution matching gives the k-th smallest value the reference's k-th smallest. Here the
    two are matched at 33 quantiles, linearly between; values that are nearly the same, as on an empty
    background, go to one value and not, by the rounding of a sort, to any of many.

    Parameters
    ----------
    reference : (c, h, w) tensor
        Features of one normal image.
    deviations : (c,) tensor
        Of the channels over the normals.
    share : float
        Of the matched value in what is given on; 0.5 in the paper.
    """

    wanted: torch.Tensor
    least: torch.Tensor
    places: torch.Tensor

    def __init__(self, reference: torch.Tensor, deviations: torch.Tensor, share: float) -> None:
        super().__init__()
        count = reference[0].numel()
        knots = np.unique(np.rint(np.linspace(0, count - 1, KNOTS + 1)).astype(np.int64))
        self.share = share
        self.register_buffer("places", torch.from_numpy(knots))
        self.register_buffer("wanted", reference.flatten(1).sort(dim=1).values[:, knots].unsqueeze(0))
        self.register_buffer("least", (NARROW * deviations.float()).clamp_min(1e-6).reshape(1, -1, 1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) → the same shape."""
        values = maps.flatten(2)
        knots = values.sort(dim=2).values[:, :, self.places]
        low, high = knots[:, :, :-1], knots[:, :, 1:]
        middle, wide = (low + high) / 2, torch.maximum(high - low, self.least)
        rises = self.wanted[:, :, 1:] - self.wanted[:, :, :-1]
        shares = ((values.unsqueeze(2) - middle.unsqueeze(3)) / wide.unsqueeze(3) + 0.5).clamp(0, 1)
        matched = self.wanted[:, :, :1] + (rises.unsqueeze(3) * shares).sum(2)
        given = values + self.share * (matched - values)
        return given.reshape(maps.shape)


def stages(encoder: ImageEncoder) -> list[nn.Module]:
    """The encoder cut at its levels: pixels → first level, first → second, and so on."""
    program = encoder._program
    found: list[nn.Module] = []
    before, done = PIXELS, set[str]()
    for output in program.outputs:
        own = [node for node in needed(program.nodes, (output,)) if node.out not in done]
        found.append(_Stage(to_torch(tuple(_from(node, before) for node in own), (output,), program.state)))
        done |= {node.out for node in own}
        before = output
    return found


def _from(node: Node, start: str) -> Node:
    """A node that reads the stage's input where it read the value of that name."""
    names = tuple(PIXELS if name == start else name for name in sources(node))
    if isinstance(node, Add | Concat):
        return replace(node, sources=names)  # type: ignore[arg-type]
    return replace(node, source=names[0])


class _Stage(nn.Module):
    """The one output of a part of the encoder."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """What the part gives."""
        (output,) = self.part(values)
        given: torch.Tensor = output
        return given


class Scored(nn.Module):
    """What is exported: pixels → scores and the sum of the levels' distances.

    Parameters
    ----------
    teacher : list of module
        Its stages.
    matchings : list of Matching
        Of the first stages; fewer than stages.
    standards : sequence of Standard
    student : Student
    size : int
        Side of the image, in pixels.
    grid : int
        Side of the finest level.
    smoothing : float
        Of the map whose peak is the score.
    """

    def __init__(
        self,
        teacher: Sequence[nn.Module],
        matchings: Sequence[Matching],
        standards: Sequence[nn.Module],
        student: Student,
        size: int,
        grid: int,
        smoothing: float,
    ) -> None:
        super().__init__()
        self.teacher, self.matchings = nn.ModuleList(teacher), nn.ModuleList(matchings)
        self.standards, self.student, self.grid = nn.ModuleList(standards), student, grid
        self.peak = Peak(grid, size, smoothing)

    def levels(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Standardised levels (n, c, h, w) of pixels (n, S, S, 3), the first ones matched on the way."""
        value, found = pixels, []
        for number, stage in enumerate(self.teacher):
            value = stage(value)
            if number < len(self.matchings):
                value = self.matchings[number](value)
            found.append(self.standards[number](value.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return found

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, S, S, 3) in 0…255 → scores (n,) and maps (n, grid, grid)."""
        levels = self.levels(pixels)
        total = torch.zeros(())
        for apart in distances(levels, self.student(levels)[1]):
            total = total + functional.interpolate(
                apart.unsqueeze(1), size=(self.grid, self.grid), mode="bilinear", align_corners=False
            )
        return self.peak(total.squeeze(1)), total.squeeze(1)
