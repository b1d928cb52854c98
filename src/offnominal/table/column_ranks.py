"""Ranks of values within columns, learned in pieces and kept small: what ECDFs and histograms stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

ERROR = 1e-3
"""Relative error of a tail's rank that one reduction may add."""
EXACT = 20_000
"""Different values a column may have before its middle is thinned out."""
_HELD = 1 << 16  # rows that wait before they are sorted in


class ColumnRanks:
    """For each column, its values in order with how often each was seen.

    Exact up to `EXACT` different values. Beyond, neighbouring values are counted together so that the number
    of rows at or below any value, and at or above it, is off by at most `ERROR` of itself each time: the
    thousand values at either end stay exact, and 10⁶ rows take some 14 000 values a column.

    Parameters
    ----------
    width : int
        Columns.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.count = 0
        self._values: list[Matrix] = [np.empty(0)] * width
        self._weights: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)] * width
        self._waiting: list[Matrix] = []

    def absorb(self, rows: Matrix) -> Self:
        """Add rows (n, width)."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= _HELD:
            self._settle()
        return self

    def merge(self, other: ColumnRanks) -> Self:
        """Add another's rows; exact where both are."""
        self._settle()
        other._settle()
        for column in range(self.width):
            self._add(column, other._values[column], other._weights[column])
        self.count += other.count
        return self

    def columns(self) -> Iterator[tuple[Matrix, npt.NDArray[np.int64]]]:
        """Yield each column's values, ascending, and their counts."""
        self._settle()
        yield from zip(self._values, self._weights, strict=True)

    def _settle(self) -> None:
        if not self._waiting:
            return
        rows = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        self._waiting = []
        for column in range(self.width):
            values = np.sort(rows[:, column])
            first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
            self._add(column, values[first], np.diff(first, append=len(values)))
        self.count += len(rows)

    def _add(self, column: int, values: Matrix, weights: npt.NDArray[np.int64]) -> None:
        mine, counts = self._values[column], self._weights[column]
        if len(mine):
            both = np.concatenate([mine, values])
            order = np.argsort(both, kind="stable")
            both, counts = both[order], np.concatenate([counts, weights])[order]
            first = np.flatnonzero(np.concatenate([[True], both[1:] != both[:-1]]))
            values, weights = both[first], np.add.reduceat(counts, first)
        if len(values) > EXACT:
            values, weights = _thinned(values, weights)
        self._values[column], self._weights[column] = values, weights

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything there is, as arrays."""
        self._settle()
        return {
            "values": np.concatenate([np.empty(0), *self._values]),
            "weights": np.concatenate([np.empty(0, np.int64), *self._weights]),
            "lengths": np.array([len(values) for values in self._values], np.int64),
        }

    @classmethod
    def restore(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Ranks from what `state` returned."""
        ranks = cls(len(state["lengths"]))
        ends = np.cumsum(state["lengths"])[:-1]
        ranks._values = np.split(np.array(state["values"], dtype=np.float64), ends)
        ranks._weights = np.split(np.array(state["weights"], dtype=np.int64), ends)
        ranks.count = int(ranks._weights[0].sum()) if ranks.width else 0
        return ranks


def _thinned(values: Matrix, weights: npt.NDArray[np.int64]) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """Count neighbouring values together, each group at its largest value.

    A group spans ranks whose logarithm, from the nearer end, differs by at most `ERROR`.
    """
    upper = np.cumsum(weights).astype(np.float64)
    total = upper[-1]
    near = np.minimum(upper, total - upper + 1)
    at = np.floor(np.log(near) / ERROR)
    side = np.where(upper <= total / 2, at, 2 * np.ceil(np.log(total) / ERROR) - at)
    last = np.flatnonzero(np.concatenate([side[1:] != side[:-1], [True]]))
    counts = np.diff(np.concatenate([[0.0], upper[last]])).astype(np.int64)
    return values[last], counts
