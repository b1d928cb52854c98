"""Nearest rows of a training set, exact and in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.threads import budget

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_TREE_WIDTH = 10  # wider rows are found faster by products than by a tree (measured)
_TREE_ROWS = 4_000  # fewer rows do not pay for compiling
_QUERIES, _BANK = 256, 1_024  # rows of one product: it stays in the second cache
_SPARE = 8  # candidates beyond k, for what rounding of the products may have swapped
_UNIT = 2.0**-24  # rounding of single precision
_FAR = 1e6  # queries so many times further out than the training rows are searched in double precision only


class Neighbours:
    """Searches training rows.

    Parameters
    ----------
    bank : ndarray (m, d)

    Notes
    -----
    A k-d tree where rows are narrow or few; else blocked matrix products and a compiled scan, O(q·m·d), where
    the extra ``table`` is installed. Products in single precision pick candidates, whose distances are then
    computed in double precision; where rounding could have hidden a nearer row, the query is searched once
    more in double precision. The answers are the same whichever way they come, and do not depend on what else
    is asked for in the same call.
    """

    def __init__(self, bank: Matrix) -> None:
        self.bank = np.ascontiguousarray(bank, dtype=np.float64)
        self._tree: Any = None
        self._scan: Any = None
        if self.bank.shape[1] > _TREE_WIDTH and len(self.bank) >= _TREE_ROWS:
            try:
                from offnominal.table.compiled import keep_nearest, screen_nearest

                self._scan, self._screen = keep_nearest, screen_nearest
            except ImportError:
                pass
        if self._scan is not None:
            # About the mean, so that the products round as little as they can.
            self._shift = self.bank.mean(axis=0)
            centred = self.bank - self._shift
            self._across = np.ascontiguousarray(centred.T)
            self._halves = 0.5 * np.einsum("ij,ij->i", centred, centred)
            self._size = float(np.abs(centred).max()) or 1.0  # to single precision's range
            self._across_single = np.ascontiguousarray(centred.T / self._size, dtype=np.float32)
            self._halves_single = (self._halves / self._size**2).astype(np.float32)
        else:
            from scipy.spatial import cKDTree

            self._tree = cKDTree(self.bank)

    def __len__(self) -> int:
        return len(self.bank)

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, Indices]:
        """Find the k nearest training rows of each query.

        Parameters
        ----------
        queries : ndarray (q, d)
        k : int
            At most the number of training rows.

        Returns
        -------
        distances : ndarray (q, k)
            Euclidean, ascending.
        rows : ndarray (q, k) of int
        """
        if self._tree is not None:
            distances, rows = self._tree.query(queries, k=[*range(1, k + 1)], workers=budget())
            return distances, rows
        distances = np.empty((len(queries), k))
        rows = np.empty((len(queries), k), np.intp)
        for first in range(0, len(queries), _QUERIES):
            part = slice(first, first + _QUERIES)
            distances[part], rows[part], sure = self._screened(queries[part], k)
            again = np.flatnonzero(~sure)
            if len(again):
                again += first
                distances[again], rows[again] = self._scanned(queries[again], k)
        return distances, rows

    def others(self, k: int) -> tuple[Matrix, Indices]:
        """The k nearest *other* training rows of each training row, as `search` gives them."""
        distances, rows = self.search(self.bank, k + 1)
        itself = rows == np.arange(len(rows))[:, None]
        itself[~itself.any(axis=1), -1] = True  # beyond k + 1 rows equal to it: any of them stands for it
        shape = (len(rows), k)
        return distances[~itself].reshape(shape), rows[~itself].reshape(shape)

    def _screened(self, queries: Matrix, k: int) -> tuple[Matrix, Indices, npt.NDArray[np.bool_]]:
        """Distances and rows (q, k) by candidates of single precision, and whether no nearer row can be."""
        most = min(k + _SPARE, len(self.bank))
        values = np.full((len(queries), most), np.inf, np.float32)
        rows = np.zeros((len(queries), most), np.intp)
        centred = (queries - self._shift) / self._size
        near = np.abs(centred).max(axis=1) <= _FAR
        single = np.where(near[:, None], centred, 0.0).astype(np.float32)
        for first in range(0, len(self.bank), _BANK):
            products = single @ self._across_single[:, first : first + _BANK]
            self._screen(products, self._halves_single, first, values, rows)
        distances, rows = self._nearest(queries, rows, k)
        # A row nearer than the k-th found lies within R of the mean; its rounded value was off by at most
        # γ (‖q‖ R + R²/2), and what is no candidate has a value no less than the last candidate's.
        size = np.sqrt(np.einsum("ij,ij->i", centred, centred))
        last = distances[:, -1] / self._size
        reach = size + last
        off = (queries.shape[1] + 8) * _UNIT * (size * reach + 0.5 * reach**2)
        sure = values[:, -1] - off >= 0.5 * (last**2 - size**2)
        return distances, rows, near & (sure | (most == len(self.bank)))

    def _nearest(self, queries: Matrix, rows: Indices, k: int) -> tuple[Matrix, Indices]:
        """The k nearest of each query's candidates (q, c), by distance and then by row."""
        apart = self.bank[rows] - queries[:, None]
        distances = np.sqrt(np.einsum("ijk,ijk->ij", apart, apart))
        order = np.lexsort((rows, distances), axis=1)[:, :k]
        return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)

    def _scanned(self, queries: Matrix, k: int) -> tuple[Matrix, Indices]:
        most = min(k + _SPARE, len(self.bank))
        values = np.full((len(queries), most), np.inf)
        rows = np.zeros((len(queries), most), np.intp)
        centred = queries - self._shift
        for first in range(0, len(self.bank), _BANK):
            self._scan(centred @ self._across[:, first : first + _BANK], self._halves, first, values, rows)
        return self._nearest(queries, rows, k)
