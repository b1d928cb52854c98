"""Empirical tail probabilities of columns, as minus logarithms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offnominal.table.column_ranks import ColumnRanks, Matrix


class Tails:
    """Left and right empirical tails of columns.

    Parameters
    ----------
    ranks : ColumnRanks

    Attributes
    ----------
    skewness : ndarray (d,)
        Of each column's training values; 0 where they do not vary.
    """

    def __init__(self, ranks: ColumnRanks) -> None:
        self._values: list[Matrix] = []
        self._below: list[Matrix] = []
        self._moments: list[_Moments] = []
        self.skewness = np.zeros(ranks.width)
        for place, (values, weights) in enumerate(ranks.columns()):
            self._values.append(values)
            self._below.append(np.concatenate([[0.0], np.cumsum(weights)]))
            self.skewness[place], moments = _skewness(values, weights)
            self._moments.append(moments)

    def surprises(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        """Minus log of the share of training values at or below, and at or above, each value.

        Parameters
        ----------
        rows : ndarray (n, d)

        Returns
        -------
        left, right : ndarray (n, d)
            The row itself counts as one more training row, so that both are finite: at most log(m + 1) for m
            training rows.
        """
        left, right = np.empty((2, *rows.shape))
        for column, (values, below) in enumerate(zip(self._values, self._below, strict=True)):
            total = below[-1] + 1
            place, equal = _located(values, np.ascontiguousarray(rows[:, column]))
            surprise = -np.log((below + 1) / total)
            left[:, column] = surprise[place + equal]
            right[:, column] = -np.log((total - below) / total)[place]
        return left, right

    def left_out(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        """As `surprises`, of training rows, each taken out."""
        left, right = np.empty((2, *rows.shape))
        for column, (values, below) in enumerate(zip(self._values, self._below, strict=True)):
            asked = np.ascontiguousarray(rows[:, column])
            total = below[-1]
            place, equal = _located(values, asked)
            surprise = -np.log(np.maximum(below, 1) / total)
            left[:, column] = surprise[place + equal]
            right[:, column] = -np.log(np.maximum(total - below, 1) / total)[place]
        return left, right

    def skewness_without(self, rows: Matrix) -> Matrix:
        """Sign (n, d) of each column's skewness, each training row taken out."""
        return np.stack([of.sign_without(rows[:, at]) for at, of in enumerate(self._moments)], axis=1)


_SURE = 7.0
"""No row can turn a sum of cubes this large: it takes off a cube and a shift's worth, at most 1 + 3 + 2."""


class _Moments(NamedTuple):
    """Count, mean and reach of a column; sums of squares and cubes of (value − mean) / reach."""

    rows: float
    mean: float
    size: float
    squares: float
    cubes: float

    def sign_without(self, values: Matrix) -> Matrix:
        """Sign (n,) of the third central moment without one row of each value."""
        if self.size == 0 or self.rows < 2:
            return np.zeros(len(values))
        if abs(self.cubes) > _SURE:
            return np.full(len(values), np.sign(self.cubes))
        apart = (values - self.mean) / self.size
        count = self.rows - 1
        shift = -apart / count  # of the mean
        third = (self.cubes - apart**3 - 3 * shift * (self.squares - apart**2)) / count + 2 * shift**3
        found: Matrix = np.sign(third)
        return found


def _located(values: Matrix, asked: Matrix) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """How many of the sorted values lie below each value asked for, and whether one equals it."""
    place = np.searchsorted(values, asked)
    equal = values[np.minimum(place, len(values) - 1)] == asked
    return place, equal


def _skewness(values: Matrix, weights: npt.NDArray[np.int64]) -> tuple[float, _Moments]:
    count = float(weights.sum())
    mean = float(weights @ values) / count
    apart = values - mean
    size = float(np.abs(apart).max())
    if size == 0:
        return 0.0, _Moments(count, mean, 0.0, 0.0, 0.0)
    apart = apart / size  # cubes stay within range
    squares = float(weights @ apart**2)
    cubes = float(weights @ apart**3)
    deviation = (squares / count) ** 0.5
    found = cubes / count / deviation**3 if deviation > 1e-12 else 0.0
    return found, _Moments(count, mean, size, squares, cubes)
