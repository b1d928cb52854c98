"""Local reachability densities: what LOF and feature bagging stand on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offnominal.table.neighbours import Indices, Matrix, Neighbours


class LocalDensity:
    """Local outlier factors with respect to training rows.

    Parameters
    ----------
    search : Neighbours
        Over the training rows.
    neighbours : int
        k, at most one less than there are rows.

    Attributes
    ----------
    reach : ndarray (m,)
        Distance of each training row to its k-th nearest other.
    density : ndarray (m,)
        Local reachability density of each training row.
    factors : ndarray (m,)
        Local outlier factor of each training row among the others.

    Notes
    -----
    Rows with k duplicates would have infinite density; their mean reach is held at 10⁻¹⁰ of the typical one,
    so that factors stay finite.
    """

    def __init__(self, search: Neighbours, neighbours: int) -> None:
        self.k = min(neighbours, len(search) - 1)
        self._search = search
        distances, rows = search.others(self.k)
        self.reach = distances[:, -1]
        mean_reach = np.maximum(self.reach[rows], distances).mean(axis=1)
        self._least = 1e-10 * float(np.median(mean_reach)) or 1e-10 * float(mean_reach.mean()) or 1e-10
        self.density = 1 / np.maximum(mean_reach, self._least)
        self.factors = self._factor(distances, rows)

    def _factor(self, distances: Matrix, rows: Indices) -> Matrix:
        reach = np.maximum(self.reach[rows], distances).mean(axis=1)
        found: Matrix = self.density[rows].mean(axis=1) * np.maximum(reach, self._least)
        return found

    def score(self, rows: npt.NDArray[np.float64]) -> Matrix:
        """Local outlier factors (n,) of new rows (n, d); near 1 within a cluster."""
        return self._factor(*self._search.search(rows, self.k))
