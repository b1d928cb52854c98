"""One Gaussian for each position of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt


class PositionGaussians:
    """Gaussians of the vectors seen at each of P positions, learned from a stream of grids.

    Parameters
    ----------
    positions : int
        P.
    width : int
        Length d of a vector.
    regularisation : float, default 0.01
        Added to the diagonal of each covariance.

    Notes
    -----
    Memory is that of P covariances (8·P·d² bytes while learning, 4·P·d² once scoring began), whatever the
    number of grids.

    Source: Defard et al., PaDiM, ICPR 2021 workshops, Sec. III-B.
    """

    block = 16  # grids that are centred and multiplied at once

    def __init__(self, positions: int, width: int, *, regularisation: float = 0.01) -> None:
        if positions < 1 or width < 1:
            raise ValueError(f"positions and width must be positive, got {positions} and {width}")
        if regularisation <= 0:
            raise ValueError(f"regularisation must be positive, got {regularisation}")
        self.regularisation = regularisation
        self.count = 0
        self.mean = np.zeros((positions, width))
        self.scatter = np.zeros((positions, width, width))
        self._whitening: npt.NDArray[np.float32] | None = None

    def absorb(self, rows: npt.NDArray[np.floating]) -> Self:
        """Add grids of vectors (n, P, d)."""
        self._check(rows)
        if not np.isfinite(rows).all():
            raise ValueError("Gaussians need finite rows; remove those with NaN or infinity first")
        for first in range(0, len(rows), self.block):
            block = rows[first : first + self.block].astype(np.float64).transpose(1, 0, 2)
            mean = block.mean(axis=1)
            block = block - mean[:, None]
            self._add(block.shape[1], mean, block.transpose(0, 2, 1) @ block)
        return self

    def merge(self, other: PositionGaussians) -> Self:
        """Add another's grids; equal to having absorbed them, up to rounding."""
        if other.mean.shape != self.mean.shape:
            raise ValueError(f"positions and widths differ: {self.mean.shape} and {other.mean.shape}")
        self._add(other.count, other.mean, other.scatter)
        return self

    @property
    def whitening(self) -> npt.NDArray[np.float32]:
        """Matrices W (P, d, d): distances are the lengths of (x − mean) W at each position."""
        return self._whiten()

    def mahalanobis(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Mahalanobis distance (n, P) of grids (n, P, d), not squared.

        Raises
        ------
        ValueError
            Fewer than two grids were absorbed, or the shape is another one.
        """
        self._check(rows)
        whitening = self._whiten()
        distances = np.empty(rows.shape[:2], np.float32)
        for first in range(0, len(rows), self.block):
            block = rows[first : first + self.block]
            centred = (block - self.mean).astype(np.float32).transpose(1, 0, 2)
            white = centred @ whitening
            distances[first : first + self.block] = np.sqrt(np.einsum("pnd,pnd->np", white, white))
        return distances

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything there is, as arrays."""
        return {
            "count": np.array([self.count], np.int64),
            "mean": self.mean,
            "scatter": self.scatter,
            "settings": np.array([self.regularisation]),
        }

    @classmethod
    def restore(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Gaussians from what `state` returned."""
        gaussians = cls(*state["mean"].shape, regularisation=float(state["settings"][0]))
        gaussians.count = int(state["count"][0])
        gaussians.mean, gaussians.scatter = np.array(state["mean"]), np.array(state["scatter"])
        return gaussians

    def _check(self, rows: npt.NDArray[np.floating]) -> None:
        if rows.ndim != 3 or rows.shape[1:] != self.mean.shape:
            raise ValueError(
                f"rows must have shape (n, {self.mean.shape[0]}, {self.mean.shape[1]}), got {rows.shape}"
            )

    def _add(self, count: int, mean: npt.NDArray[np.float64], scatter: npt.NDArray[np.float64]) -> None:
        if not count:
            return
        total = self.count + count
        step = mean - self.mean
        self.scatter += scatter
        self.scatter += step[:, :, None] * (step * (self.count * count / total))[:, None, :]
        self.mean = self.mean + step * (count / total)
        self.count = total
        self._whitening = None

    def _whiten(self) -> npt.NDArray[np.float32]:
        """Matrices W (P, d, d) with W Wᵀ the precision of each position, computed once."""
        if self.count < 2:
            raise ValueError(f"Gaussians need at least two grids, got {self.count}")
        if self._whitening is None:
            whitening = np.empty(self.scatter.shape, np.float32)
            identity = np.eye(self.scatter.shape[1]) * self.regularisation
            for first in range(0, len(whitening), 64):
                covariance = self.scatter[first : first + 64] / (self.count - 1) + identity
                inverse = np.linalg.inv(np.linalg.cholesky(covariance))
                whitening[first : first + 64] = inverse.transpose(0, 2, 1)
            self._whitening = whitening
        return self._whitening
