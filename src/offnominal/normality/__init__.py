"""Models of what is normal, over vectors: memory banks and their coresets, Gaussians."""

from __future__ import annotations

from offnominal.normality.buffer import CoresetBuffer
from offnominal.normality.coreset import covering_radius, greedy_coreset
from offnominal.normality.gaussian import ShrunkGaussian
from offnominal.normality.nearest import NearestRows
from offnominal.normality.positions import PositionGaussians
from offnominal.normality.projection import RandomProjection

__all__ = [
    "CoresetBuffer",
    "NearestRows",
    "PositionGaussians",
    "RandomProjection",
    "ShrunkGaussian",
    "covering_radius",
    "greedy_coreset",
]
