"""Greedy k-centre selection: few rows that leave no row far away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.seeds import generator
from offnominal.normality.projection import RandomProjection


def greedy_coreset(
    rows: npt.NDArray[np.floating] | Sequence[npt.NDArray[np.floating]],
    k: int,
    *,
    seed: int = 0,
    projection: int | None = 128,
    start: int = 10,
) -> npt.NDArray[np.int64]:
    """Choose rows one by one, each the farthest from those chosen so far.

    Parameters
    ----------
    rows : ndarray, shape (n, d), or sequence of such
        Finite floating-point rows; those of a sequence are numbered through.
    k : int
        Rows to choose.
    seed : int, default 0
        Of the projection and of the rows that start the selection.
    projection : int or None, default 128
        Width of the random projection in which distances are taken; None takes them in full width.
    start : int, default 10
        Every row starts with its mean distance to this many random rows, so that memory is O(n).

    Returns
    -------
    indices : ndarray of int64, shape (min(k, rows that differ),)
        In the order of choice. Rows that coincide with a chosen one are never chosen.

    Notes
    -----
    The choice is that of the plain loop (one distance to all rows a step) in double precision, whatever the
    number of threads, at a fraction of the work: a row's distance to the chosen rows only falls, so a value
    that was computed some steps ago bounds today's. Only rows whose bound is near the largest distance are
    brought up to date, many steps at once, by one matrix product; between two such rounds a step looks at
    those few rows alone. Single precision orders the rows, and near ties are settled in double.

    Source: Roth et al., CVPR 2022, Algorithm 1 (approximate start: the authors' code); Gonzalez 1985.
    """
    blocks = [rows] if isinstance(rows, np.ndarray) else list(rows)
    widths = {block.shape[1] if block.ndim == 2 else 0 for block in blocks}
    n = sum(map(len, blocks))
    if len(widths) != 1 or not n or not (width := widths.pop()):
        raise ValueError(f"a coreset needs rows of shape (n, d), got {[block.shape for block in blocks]}")
    if k < 1 or start < 1:
        raise ValueError(f"k and start must be positive, got {k} and {start}")
    points = RandomProjection(width, projection or width, seed=seed)(blocks)
    if not np.isfinite(points).all():
        raise ValueError("a coreset needs finite rows; remove those with NaN or infinity first")
    # A shift changes no distance and keeps the rounding of ‖x‖² + ‖c‖² − 2x·c small.
    points -= points.mean(axis=0, dtype=np.float64).astype(np.float32)
    anchors = generator(seed, "coreset", "start").choice(n, size=min(start, n), replace=False)
    try:
        return _Selection(points, anchors).choose(min(k, n))
    except _TooCloseError:
        return _Selection(points.astype(np.float64), anchors).choose(min(k, n))


def covering_radius(rows: npt.NDArray[np.floating], centres: npt.NDArray[np.floating]) -> float:
    """Largest Euclidean distance of a row (n, d) to its nearest centre (m, d)."""
    shift = centres.mean(axis=0, dtype=np.float64)
    middle = (centres - shift).astype(np.float32)
    halves = np.einsum("ij,ij->i", middle, middle) / 2
    widest = 0.0
    for first in range(0, len(rows), 4096):
        block = (rows[first : first + 4096] - shift).astype(np.float32)
        best = np.full(len(block), -np.inf, np.float32)
        nearest = np.zeros(len(block), np.int64)
        for low in range(0, len(middle), 2048):
            closeness = block @ middle[low : low + 2048].T - halves[low : low + 2048]
            place = closeness.argmax(axis=1)
            value = closeness[np.arange(len(block)), place]
            nearest = np.where(value > best, place + low, nearest)
            best = np.maximum(value, best)
        apart = rows[first : first + 4096].astype(np.float64) - centres[nearest]
        widest = max(widest, float(np.einsum("ij,ij->i", apart, apart).max()))
    return float(widest**0.5)


class _TooCloseError(Exception):
    """Single precision cannot order the rows that are left."""


class _Selection:
    """Lazy farthest-first traversal over centred points (n, p), in their own precision.

    A squared distance carries a rounding error; ``values - slack`` and ``values + slack`` enclose the true
    one. Rows outside of the pool have an upper end below ``level``, so while some row inside has a lower
    end above it, the next choice is inside.
    """

    pool_size = 4096  # rows a step looks at: they stay in the second-level cache
    ties = 64  # near ties settled in double precision; more mean that single is too coarse

    def __init__(self, points: npt.NDArray[Any], anchors: npt.NDArray[np.int64]) -> None:
        self.points = points
        self.single = points.dtype == np.float32
        self.anchor_rows = anchors
        self.anchors = points[anchors].astype(np.float64)
        self.norms = np.einsum("ij,ij->i", points, points)
        # In units of the row's norm and of the value itself: a centre much farther out than the row has an
        # error in proportion to the distance.
        self.rounding = 8 * float(np.finfo(points.dtype).eps) * max(1.0, (points.shape[1] / 128) ** 0.5)
        self.pads = (4 * self.rounding * self.norms).astype(points.dtype)
        starts = [self._start_of(points[first : first + 1024]) for first in range(0, len(points), 1024)]
        squared = np.concatenate(starts)
        self.first = int(squared.argmax())
        #: squared distance to the centres applied so far; −inf once chosen
        self.squared = squared.astype(points.dtype)
        #: how many centres have been applied to each row
        self.applied = np.zeros(len(points), np.int32)

    def choose(self, k: int) -> npt.NDArray[np.int64]:
        self.chosen = np.empty(k, np.int64)
        self.centres = np.empty((k, self.points.shape[1]), self.points.dtype)
        self.halves = np.empty(k, self.points.dtype)
        self.count = 0
        self._add(self.first)
        share, limit, best = 0.95, self.pool_size, float(self.squared.max())
        while self.count < k and best > -np.inf:
            level = max(best, 0.0) * share
            pool = np.flatnonzero(self._upper(slice(None)) >= level)
            self._apply(pool)
            upper = self._upper(pool)
            crowded = np.count_nonzero(upper >= level) > limit
            if crowded:
                level = float(np.partition(upper, -limit)[-limit])
            before = self.count
            self._exhaust(pool[upper >= level], level)
            best = float(self.squared[pool].max(initial=-np.inf))
            if best == -np.inf:  # nothing left in the pool: begin again at the highest bound
                best = float(self.squared.max())
            if crowded and self.count == before:  # more rows tie than the pool holds
                if self.single:
                    raise _TooCloseError
                limit *= 2
            elif crowded:
                share, limit = 1 - (1 - share) * 0.7, self.pool_size
            elif self.count - before < 64:
                share = max(0.25, 1 - (1 - share) * 1.4)
        if self.count < k:
            self._cover_anchors()
        return self.chosen[: self.count].copy()

    def _apply(self, pool: npt.NDArray[np.int64]) -> None:
        """Bring the rows of the pool up to date with the centres chosen so far."""
        stale = pool[self.applied[pool] < self.count]
        stale = stale[np.argsort(self.applied[stale], kind="stable")]
        for first in range(0, len(stale), 1024):
            rows = stale[first : first + 1024]
            points = self.points[rows]
            lowest = np.full(len(rows), np.inf, self.points.dtype)
            for low in range(int(self.applied[rows[0]]), self.count, 256):
                high = min(low + 256, self.count)
                products = points @ self.centres[low:high].T
                np.subtract(self.halves[low:high], products, out=products)
                np.minimum(lowest, products.min(axis=1), out=lowest)
            self.squared[rows] = np.minimum(self.squared[rows], 2 * lowest + self.norms[rows])
        self.applied[stale] = self.count
        same = pool[self.squared[pool] <= 2 * self.pads[pool]]
        same = same[self.squared[same] > -np.inf]
        if len(same):
            if self.single:
                raise _TooCloseError
            self.squared[same] = -np.inf  # copies of chosen rows

    def _add(self, row: int) -> None:
        self.chosen[self.count] = row
        self.centres[self.count], self.halves[self.count] = self.points[row], self.norms[row] / 2
        self.squared[row] = -np.inf
        self.count += 1

    def _cover_anchors(self) -> None:
        """Choose the one row that starts at distance zero: where all anchors coincide."""
        row = int(self.anchor_rows.min())
        apart = self.centres[: self.count] - self.points[row]
        if np.einsum("ij,ij->i", apart, apart).min() > 2 * self.pads[row]:
            self._add(row)

    def _upper(self, rows: npt.NDArray[np.int64] | slice) -> npt.NDArray[Any]:
        """Upper end of the squared distances."""
        upper: npt.NDArray[Any] = self.squared[rows] * (1 + self.rounding) + self.pads[rows]
        return upper

    def _exhaust(self, pool: npt.NDArray[np.int64], level: float) -> None:
        """Choose from an up-to-date pool until a row outside of it might be farther."""
        points, norms, values = self.points[pool], self.norms[pool], self.squared[pool]
        slack = self.pads[pool] + self.rounding * np.maximum(values, 0)
        while self.count < len(self.chosen):
            lower = float((values - slack).max(initial=-np.inf))
            if lower < level:
                break
            near = np.flatnonzero(values + slack >= lower)
            place = int(near[0]) if len(near) == 1 else self._settle(near, points, values)
            self._add(int(pool[place]))
            centre, half = points[place], self.halves[self.count - 1]
            update = points @ centre
            np.subtract(half, update, out=update)
            update *= 2
            update += norms
            np.minimum(values, update, out=values)
            values[place] = -np.inf
        self.squared[pool] = values
        self.applied[pool] = self.count

    def _settle(self, near: npt.NDArray[np.int64], points: npt.NDArray[Any], values: npt.NDArray[Any]) -> int:
        """Place of the farthest among near ties, the first where they are equal."""
        if not self.single:
            return int(near[values[near].argmax()])
        if len(near) > self.ties:
            raise _TooCloseError
        exact = self._start_of(points[near])
        centres, halves = self.centres[: self.count], self.halves[: self.count]
        for row, place in enumerate(near):
            products = halves - centres @ points[place]
            bound = products.min() + self.rounding * (
                5 * float(points[place] @ points[place]) + float(values[place])
            )
            apart = points[place].astype(np.float64) - centres[products <= bound]
            exact[row] = min(exact[row], np.einsum("ij,ij->i", apart, apart).min())
        return int(near[exact.argmax()])

    def _start_of(self, points: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Squared mean distance to the anchors, in double precision."""
        wide = points.astype(np.float64)
        squared = np.einsum("ij,ij->i", wide, wide)[:, None] - 2 * wide @ self.anchors.T
        squared += np.einsum("ij,ij->i", self.anchors, self.anchors)
        values: npt.NDArray[np.float64] = np.sqrt(np.maximum(squared, 0)).mean(axis=1) ** 2
        return values
