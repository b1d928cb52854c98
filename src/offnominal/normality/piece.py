"""A piece of a memory bank: which of its rows can be among the nearest of a query."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offnominal.normality.products import FAR, Precision, products, to_bf16

Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


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
        length = np.linalg.norm(rows - shift, axis=1).astype(np.float64)
        # Rows of about the same length share a group, so that one outlier loosens the bounds of its group
        # only. Group g of W is made of the columns g, g + W, g + 2W, …; −1 fills the last ones.
        order = np.full(groups * self.group, -1)
        order[: len(rows)] = np.argsort(length, kind="stable")
        #: row number of each column of the product
        self.order = np.ascontiguousarray(order.reshape(groups, self.group).T).ravel()
        filled = self.order >= 0
        shifted = np.zeros((len(order), rows.shape[1]), np.float32)
        shifted[filled] = rows[self.order[filled]] - shift
        squared = np.einsum("ij,ij->i", shifted, shifted, dtype=np.float64)
        halves = np.where(filled, squared / 2, FAR).astype(np.float32)
        self.products = products(shifted, halves, precision, threads)
        # Length of each row, and of what rounding its numbers takes away.
        self.length = np.sqrt(squared)
        self.low = self.products.precision == "bf16"
        self.lost = _lost(shifted) if self.low else np.zeros(len(shifted))
        # By row, for products with the rows as they are: half squared length, and length before the shift.
        self.halves = (length**2 / 2).astype(np.float32)
        self.reach = np.linalg.norm(rows, axis=1) + float(np.linalg.norm(shift))
        # Rounding of the subtraction, of single-precision sums, and of a half squared norm.
        self.single = 2.0**-24 * max(8.0, rows.shape[1] ** 0.5)

    def candidates(self, queries: npt.NDArray[np.float32], k: int) -> Candidates:
        """Begin a search for the k nearest rows of at most a product's block of queries (q, d)."""
        return Candidates(self, queries - self.shift, k)


class Candidates:
    """One block of queries against one piece: first seeds, then whatever is not ruled out by them."""

    many = 16  # groups a query may leave open

    def __init__(self, piece: BankPiece, shifted: npt.NDArray[np.float32], k: int) -> None:
        self.piece = piece
        self.shifted = shifted
        self.values = piece.products(shifted)
        self.squared = np.einsum("ij,ij->i", shifted, shifted, dtype=np.float64)
        self.length = np.sqrt(self.squared)
        self.lost = _lost(shifted) if piece.low else np.zeros(len(shifted))
        columns = self.values.shape[1]
        self.stride = piece.group if columns // piece.group >= 4 * k else 1
        self.grouped = self.values.reshape(len(shifted), self.stride, -1)
        self.smallest = self.grouped.min(axis=1) if self.stride > 1 else self.values
        self.k = min(k, self.smallest.shape[1])

    def seeds(self) -> Pairs:
        """Query and row numbers of k good rows each: the best of the k groups with the smallest values."""
        count, width = len(self.values), self.smallest.shape[1]
        if self.k == 1:
            group = self.smallest.argmin(axis=1)
        else:
            group = np.argpartition(self.smallest, self.k - 1, axis=1)[:, : self.k].ravel()
        owner = np.repeat(np.arange(count), self.k)
        return self._inside(owner, self.grouped[owner, :, group].argmin(axis=1) * width + group)

    def others(self, bound: npt.NDArray[np.float64]) -> Pairs:
        """Query and row numbers of all pairs that may be within the squared distances ``bound`` (q,)."""
        piece, width = self.piece, self.smallest.shape[1]
        limit = np.minimum((bound - self.squared) / 2, float(FAR) / 2)
        length = piece.length.reshape(-1, width).max(axis=0)
        lost = piece.lost.reshape(-1, width).max(axis=0)
        window = _window(limit, self.length, self.lost, piece.single, length, lost)
        close = self.smallest <= window
        # Where low precision rules out too little, it is cheaper to multiply again than to rank it all.
        loose = np.flatnonzero(close.sum(axis=1) > self.many) if piece.low else np.empty(0, np.int64)
        close[loose] = False
        owner, group = np.nonzero(close)
        if self.stride == 1:
            near = self._inside(owner, group)
        else:
            place, part = np.nonzero(self.grouped[owner, :, group] <= window[owner, group][:, None])
            near = self._inside(owner[place], part * width + group[place])
        if not len(loose):
            return near
        again = self._in_single(loose, limit[loose])
        return np.concatenate([near[0], again[0]]), np.concatenate([near[1], again[1]])

    def _in_single(self, queries: npt.NDArray[np.int64], limit: npt.NDArray[np.float64]) -> Pairs:
        """The pairs of some queries, by a single-precision product with the rows as they are."""
        piece = self.piece
        shifted = self.shifted[queries]
        values = shifted @ piece.rows.T
        np.subtract(piece.halves + (shifted @ piece.shift)[:, None], values, out=values)
        nothing = np.zeros(len(queries))
        window = _window(limit, self.length[queries], nothing, piece.single, piece.reach, 0 * piece.reach)
        owner, row = np.nonzero(values <= window)
        return queries[owner], row

    def _inside(self, owner: npt.NDArray[np.int64], column: npt.NDArray[np.int64]) -> Pairs:
        """Query and row numbers of columns that are rows."""
        row = self.piece.order[column]
        inside = row >= 0
        return owner[inside], row[inside]


def _lost(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Length of the difference between rows (n, d) and their bfloat16 rounding."""
    difference = rows - to_bf16(rows)
    length: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", difference, difference, dtype=np.float64))
    return length


def _window(
    limit: npt.NDArray[np.float64],
    query: npt.NDArray[np.float64],
    query_lost: npt.NDArray[np.float64],
    single: float,
    row: npt.NDArray[np.float64],
    row_lost: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Largest product value (q, m) that a pair within the limit (q,) can show.

    By Cauchy and Schwarz ‖b‖²/2 − q·b is wrong by at most δq·‖b‖ + (‖q‖ + δq)·δb + ε (‖q‖ + ‖b‖)², with δ
    the length of what rounding took from a row.
    """
    # Outer products by broadcasting: too thin for a matrix product to pay.
    per_query = (limit + single * query**2).astype(np.float32)[:, None]
    window: npt.NDArray[np.float32] = (query_lost + 2 * single * query).astype(np.float32)[
        :, None
    ] * row.astype(np.float32)
    if row_lost.any():
        window += (query + query_lost).astype(np.float32)[:, None] * row_lost.astype(np.float32)
    window += (single * row**2).astype(np.float32)
    window += per_query
    window += np.float32(1e-6) * np.abs(per_query)
    return window
