"""Empirical tail probabilities of columns, as minus logarithms."""

from __future__ import annotations

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
        self.skewness = np.zeros(ranks.width)
        for place, (values, weights) in enumerate(ranks.columns()):
            self._values.append(values)
            self._below.append(np.concatenate([[0.0], np.cumsum(weights)]))
            self.skewness[place] = _skewness(values, weights)

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


def _located(values: Matrix, asked: Matrix) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """How many of the sorted values lie below each value asked for, and whether one equals it."""
    place = np.searchsorted(values, asked)
    equal = values[np.minimum(place, len(values) - 1)] == asked
    return place, equal


def _skewness(values: Matrix, weights: npt.NDArray[np.int64]) -> float:
    share = weights / weights.sum()
    apart = values - share @ values
    size = float(np.abs(apart).max())
    if size == 0:
        return 0.0
    apart = apart / size  # cubes stay within range
    deviation = float(np.sqrt(share @ apart**2))
    return float(share @ apart**3) / deviation**3 if deviation > 1e-12 else 0.0
