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
_SPARE = 4  # candidates beyond k, for what rounding of the products may have swapped


class Neighbours:
    """Searches training rows.

    Parameters
    ----------
    bank : ndarray (m, d)

    Notes
    -----
    A k-d tree where rows are narrow or few; else blocked matrix products and a compiled scan, O(q·m·d), where
    the extra ``table`` is installed. The answers are the same, and do not depend on what else is asked for in
    the same call.
    """

    def __init__(self, bank: Matrix) -> None:
        self.bank = np.ascontiguousarray(bank, dtype=np.float64)
        self._tree: Any = None
        self._scan: Any = None
        if self.bank.shape[1] > _TREE_WIDTH and len(self.bank) >= _TREE_ROWS:
            try:
                from offnominal.table.compiled import keep_nearest

                self._scan = keep_nearest
            except ImportError:
                pass
        if self._scan is not None:
            # About the mean, so that the products round as little as they can.
            self._shift = self.bank.mean(axis=0)
            centred = self.bank - self._shift
            self._across = np.ascontiguousarray(centred.T)
            self._halves = 0.5 * np.einsum("ij,ij->i", centred, centred)
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
            distances[part], rows[part] = self._scanned(queries[part], k)
        return distances, rows

    def others(self, k: int) -> tuple[Matrix, Indices]:
        """The k nearest *other* training rows of each training row, as `search` gives them."""
        distances, rows = self.search(self.bank, k + 1)
        itself = rows == np.arange(len(rows))[:, None]
        itself[~itself.any(axis=1), -1] = True  # beyond k + 1 rows equal to it: any of them stands for it
        shape = (len(rows), k)
        return distances[~itself].reshape(shape), rows[~itself].reshape(shape)

    def _scanned(self, queries: Matrix, k: int) -> tuple[Matrix, Indices]:
        most = min(k + _SPARE, len(self.bank))
        values = np.full((len(queries), most), np.inf)
        rows = np.zeros((len(queries), most), np.intp)
        centred = queries - self._shift
        for first in range(0, len(self.bank), _BANK):
            self._scan(centred @ self._across[:, first : first + _BANK], self._halves, first, values, rows)
        apart = self.bank[rows] - queries[:, None]
        distances = np.sqrt(np.einsum("ijk,ijk->ij", apart, apart))
        order = np.lexsort((rows, distances), axis=1)[:, :k]
        return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
