"""Post-processing that runs inside the encoder's graph: rows added to the network's table.

Patch features leave the runtime once, at the grid and width the detector uses, instead of level by level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from offnominal.core.seeds import generator
from offnominal.encoders.network import (
    Array,
    Concat,
    GlobalMean,
    LocalMean,
    Node,
    Project,
    Resize,
    Scale,
    Shape,
)


@dataclass(frozen=True)
class Addition:
    """What a head adds to a table: nodes, the values to give out, and the tensors the nodes name."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    tensors: dict[str, Array]


@runtime_checkable
class Head(Protocol):
    """Anything that turns levels into outputs. It has to be hashable: encoders are cached by it."""

    def extend(self, levels: Sequence[str], shapes: Mapping[str, Shape]) -> Addition:
        """Rows for these values of these shapes, (c, h, w) or (c,)."""
        ...


@dataclass(frozen=True)
class PatchHead:
    """Locally averaged patch features of all levels on one grid: one output (n, h, w, C).

    Each level is averaged over a square neighbourhood, brought to the grid by bilinear interpolation and
    joined along the channels. Source: Roth et al., "Towards Total Recall in Industrial Anomaly Detection",
    CVPR 2022, section 3.1 (locally aware patch features, mean as aggregation).

    Parameters
    ----------
    neighbourhood : int, default 3
        Side of the neighbourhood, odd; 1 leaves the features as they are. Positions outside the map count as
        zeros, as the authors' implementation has it: features at the border, which the network's own padding
        disturbs, then weigh less. Averaging over existing positions only let normal borders score high
        (validation image AUROC of magnetic tiles .62 instead of .78).
    grid : "finest" or (int, int), default "finest"
        Height and width of the output; "finest" is the largest grid among the levels.
    weights : tuple of float, optional
        One factor a level.
    mean, std : tuple of float, optional
        Per-channel constants over the joined channels; features become (x − mean) / std before the weights.
    projection : int, optional
        Width C after a seeded Gaussian random projection (entries N(0, 1/C), which keeps distances in
        expectation; Johnson & Lindenstrauss, 1984). Left out, the channels stay.
    seed : int, default 0
        Of the projection.

    Raises
    ------
    ValueError
        The neighbourhood is even, or constants do not fit the levels.
    """

    neighbourhood: int = 3
    grid: str | tuple[int, int] = "finest"
    weights: tuple[float, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    projection: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.neighbourhood < 1 or self.neighbourhood % 2 == 0:
            raise ValueError(f"neighbourhood must be odd and positive, got {self.neighbourhood}")
        if isinstance(self.grid, str) and self.grid != "finest":
            raise ValueError(f"grid must be 'finest' or (height, width), got {self.grid!r}")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be positive for every channel")

    def extend(self, levels: Sequence[str], shapes: Mapping[str, Shape]) -> Addition:
        """Rows for feature maps of these shapes."""
        flat = [level for level in levels if len(shapes[level]) != 3]
        if flat:
            raise ValueError(f"PatchHead needs feature maps; {', '.join(flat)} has no positions")
        grid = max((shapes[level][1:] for level in levels), key=lambda sides: sides[0] * sides[1])
        if not isinstance(self.grid, str):
            grid = self.grid
        nodes: list[Node] = []
        parts: list[str] = []
        for level in levels:
            value = level
            if self.neighbourhood > 1:
                nodes.append(LocalMean(f"patch:{level}:mean", value, self.neighbourhood))
                value = nodes[-1].out
            if shapes[level][1:] != grid:
                nodes.append(Resize(f"patch:{level}:grid", value, (grid[0], grid[1])))
                value = nodes[-1].out
            parts.append(value)
        nodes.append(Concat("patch:joined", tuple(parts)))
        widths = [shapes[level][0] for level in levels]
        tensors = self._constants(widths)
        if tensors:
            nodes.append(Scale("patch:scaled", "patch:joined", "patch:scale", "patch:shift"))
        if self.projection is not None:
            drawn = generator(self.seed, "encoders", "projection").standard_normal(
                (self.projection, sum(widths))
            )
            tensors["patch:projection"] = (drawn / np.sqrt(self.projection)).astype(np.float32)
            nodes.append(
                Project("patch:projected", nodes[-1].out, "patch:projection", (sum(widths), self.projection))
            )
        return Addition(tuple(nodes), (nodes[-1].out,), tensors)

    def _constants(self, widths: Sequence[int]) -> dict[str, Array]:
        if self.weights is None and self.mean is None and self.std is None:
            return {}
        factors = self.weights if self.weights is not None else (1.0,) * len(widths)
        if len(factors) != len(widths):
            raise ValueError(f"{len(factors)} weights for {len(widths)} levels")
        mean = np.zeros(sum(widths)) if self.mean is None else np.asarray(self.mean, np.float64)
        std = np.ones(sum(widths)) if self.std is None else np.asarray(self.std, np.float64)
        if mean.shape != (sum(widths),) or std.shape != (sum(widths),):
            raise ValueError(f"mean and std need one number for each of the {sum(widths)} channels")
        scale = np.repeat(np.asarray(factors, np.float64), widths) / std
        return {
            "patch:scale": scale.astype(np.float32),
            "patch:shift": (-mean * scale).astype(np.float32),
        }


@dataclass(frozen=True)
class PoolHead:
    """Global average of each level: outputs (n, c), one a level or joined into one.

    Parameters
    ----------
    join : bool, default True
        One output with the levels' channels side by side, else one output a level.
    """

    join: bool = True

    def extend(self, levels: Sequence[str], shapes: Mapping[str, Shape]) -> Addition:
        """Rows for feature maps or vectors; a vector passes as it is."""
        nodes: list[Node] = []
        for level in levels:
            pooled = len(shapes[level]) == 3
            nodes.append(GlobalMean(f"pool:{level}", level) if pooled else Concat(f"pool:{level}", (level,)))
        parts = tuple(node.out for node in nodes)
        if not self.join:
            return Addition(tuple(nodes), parts, {})
        return Addition((*nodes, Concat("pool:joined", parts)), ("pool:joined",), {})
