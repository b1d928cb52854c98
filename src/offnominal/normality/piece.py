"""A piece of a memory bank: which of its rows can be among the nearest of a query."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offnominal.normality.products import FAR, Precision, products, to_bf16


class BankPiece:
    """Some consecutive rows of a bank, with the product that bounds distances to them.

    Parameters
    ----------
    rows : ndarray of float32, shape (m, d)
    shift : ndarray of float32, shape (d,)
        Subtracted from rows and queries: it changes no distance and keeps the product's rounding small.
    """

    group = 16  # rows of one group, whose smallest value is looked at first

    def __init__(
        self,
        rows: npt.NDArray[np.float32],
        shift: npt.NDArray[np.float32],
        precision: Precision,
        threads: int,
    ) -> None:
        self.rows = rows
        self.shift = shift
        groups = -(-len(rows) // self.group)
        shifted = np.zeros((groups * self.group, rows.shape[1]), np.float32)
        np.subtract(rows, shift, out=shifted[: len(rows)])
        squared = np.einsum("ij,ij->i", shifted, shifted, dtype=np.float64)
        halves = (squared / 2).astype(np.float32)
        halves[len(rows) :] = FAR
        self.products = products(shifted, halves, precision, threads)
        # Length of each row, and of what rounding its numbers takes away.
        self.length = np.sqrt(squared)
        self.lost = _lost(shifted) if self.products.precision == "bf16" else np.zeros(len(shifted))
        # Rounding of the subtraction, of single-precision sums, and of a half squared norm.
        self.single = 2.0**-24 * max(8.0, rows.shape[1] ** 0.5)

    def candidates(self, queries: npt.NDArray[np.float32], k: int) -> Candidates:
        """Begin a search for the k nearest rows of at most a product's block of queries (q, d)."""
        return Candidates(self, queries - self.shift, k)


class Candidates:
    """One block of queries against one piece: first seeds, then whatever is not ruled out by them."""

    def __init__(self, piece: BankPiece, shifted: npt.NDArray[np.float32], k: int) -> None:
        self.piece = piece
        self.values = piece.products(shifted)
        self.squared = np.einsum("ij,ij->i", shifted, shifted, dtype=np.float64)
        self.length = np.sqrt(self.squared)
        self.lost = _lost(shifted) if piece.products.precision == "bf16" else np.zeros(len(shifted))
        columns = self.values.shape[1]
        self.stride = piece.group if columns // piece.group >= 4 * k else 1
        self.grouped = self.values.reshape(len(shifted), self.stride, -1)
        self.smallest = self.grouped.min(axis=1) if self.stride > 1 else self.values
        self.k = min(k, self.smallest.shape[1])

    def seeds(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Query and row numbers of k good rows each: the best of the k groups with the smallest values."""
        count, width = len(self.values), self.smallest.shape[1]
        if self.k == 1:
            group = self.smallest.argmin(axis=1)
        else:
            group = np.argpartition(self.smallest, self.k - 1, axis=1)[:, : self.k].ravel()
        owner = np.repeat(np.arange(count), self.k)
        return self._inside(owner, self.grouped[owner, :, group].argmin(axis=1) * width + group)

    def others(self, bound: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Query and row numbers of all pairs that may be within the squared distances ``bound`` (q,)."""
        limit = np.minimum((bound - self.squared) / 2, float(FAR) / 2)
        limit += self._rounding(self.length, self.lost, self.piece.length.max(), self.piece.lost.max())
        owner, group = np.nonzero(self.smallest <= limit[:, None])
        if self.stride == 1:
            return self._inside(owner, group)
        place, part = np.nonzero(self.grouped[owner, :, group] <= limit[owner, None])
        owner, row = owner[place], part * self.smallest.shape[1] + group[place]
        # The rounding of this very pair is less than the largest there is.
        exact = np.minimum((bound - self.squared) / 2, float(FAR) / 2)[owner] + self._rounding(
            self.length[owner], self.lost[owner], self.piece.length[row], self.piece.lost[row]
        )
        near = self.values[owner, row] <= exact
        return self._inside(owner[near], row[near])

    def _rounding(
        self,
        query: npt.NDArray[np.float64],
        query_lost: npt.NDArray[np.float64],
        row: npt.NDArray[np.float64] | float,
        row_lost: npt.NDArray[np.float64] | float,
    ) -> npt.NDArray[np.float64]:
        """Bound on the error of ‖b‖²/2 − q·b, by Cauchy and Schwarz."""
        rounding: npt.NDArray[np.float64] = query_lost * row + (query + query_lost) * row_lost
        rounding += self.piece.single * (query + row) ** 2
        return rounding

    def _inside(
        self, owner: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Without the rows that only fill the last group."""
        inside = row < len(self.piece.rows)
        return owner[inside], row[inside]


def _lost(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Length of the difference between rows (n, d) and their bfloat16 rounding."""
    difference = rows - to_bf16(rows)
    length: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", difference, difference, dtype=np.float64))
    return length
