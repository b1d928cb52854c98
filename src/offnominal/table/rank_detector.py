"""What detectors on ranks of columns share: learning in pieces."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from offnominal.table.column_ranks import ColumnRanks, Matrix
from offnominal.table.detector import TableDetector


class RankDetector(TableDetector):
    """Base of detectors that know each column by the ranks of its values; `_prepared` takes it from there."""

    ranks_: dict[str, npt.NDArray[Any]]
    _ranks: ColumnRanks

    def _begin(self) -> None:
        self._ranks = ColumnRanks(self.encoding.width)

    def _absorb(self, batch: Matrix) -> None:
        self._ranks.absorb(batch)

    def _merge(self, other: Self) -> None:
        self._ranks.merge(other._ranks)

    def _finish(self) -> None:
        self.ranks_ = self._ranks.state()
        del self._ranks
        self._prepared()

    def _resume(self) -> None:
        self._ranks = ColumnRanks.restore(self.ranks_)

    def _pause(self) -> dict[str, npt.NDArray[Any]]:
        return self._ranks.state()

    def _unpause(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self._ranks = ColumnRanks.restore(arrays)

    def _learned_ranks(self) -> ColumnRanks:
        """The learned ranks, checked: what a file holds need not fit together."""
        ranks = ColumnRanks.restore(self.ranks_)
        if ranks.width != self.encoding.width or not all(len(values) for values, _ in ranks.columns()):
            raise ValueError("ranks and encoding do not fit together")
        return ranks


def skew_chosen(left: Matrix, right: Matrix, skewness: npt.NDArray[np.float64]) -> Matrix:
    """The tail each column is skewed to: the left one where skewness is negative."""
    return np.where(skewness < 0, left, right)
