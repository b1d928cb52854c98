"""COPOD: empirical copula of the columns."""

from __future__ import annotations

from typing import Literal

import numpy as np

from offnominal.core.card import card
from offnominal.table.column_ranks import Matrix
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.rank_detector import RankDetector, skew_chosen
from offnominal.table.tails import Tails

Aggregate = Literal["columns", "rows"]


@card(
    "copod",
    title="COPOD: Copula-Based Outlier Detection",
    year=2020,
    url="https://arxiv.org/abs/2009.09463",
    kind="detector",
    modality="table",
    setting=("full-shot", "noisy"),
    supervision="normal-only",
    scope="item",
    localises=True,
    streams=True,
    explains=("distance",),
)
class COPOD(RankDetector):
    """Tail probability of a row under the columns' empirical copula: nothing to tune, says which column.

    Parameters
    ----------
    aggregate : {"columns", "rows"}, default "columns"
        Whether each column counts by the larger of the tail it is skewed to and the mean of both tails, or a
        row by the largest of the left, right and skewness-corrected sums (as the paper writes it).
    scaling, missing, seed
        As in every vector detector; ranks do not change with scaling.

    Notes
    -----
    Fit O(n·d·log n), score O(d·log n) a row; O(d·min(n, 20 000)) is kept, see `ColumnRanks`. Tails count the
    training rows only.

    Source: Li et al., ICDM 2020.
    """

    def __init__(
        self,
        aggregate: Aggregate = "columns",
        scaling: Scaling = "none",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.aggregate = aggregate
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    _tails: Tails

    def _prepared(self) -> None:
        self._tails = Tails(self._learned_ranks())

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._explained(rows)[0]

    def _contributions(self, rows: Matrix) -> Matrix:
        left, right = self._tails.surprises(rows)
        return self._chosen(left, right, self._tails.skewness)

    def _explained(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        parts = self._contributions(rows)
        return parts.sum(axis=1), parts

    def _left_out(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        left, right = self._tails.left_out(rows)
        parts = self._chosen(left, right, self._tails.skewness_without(rows))
        return parts.sum(axis=1), parts

    def _chosen(self, left: Matrix, right: Matrix, skewness: Matrix) -> Matrix:
        """What each column adds (n, d)."""
        chosen = skew_chosen(left, right, skewness)
        if self.aggregate == "columns":
            return np.maximum(chosen, (left + right) / 2)
        sums = np.stack([part.sum(axis=1) for part in (left, right, chosen)])
        largest = sums.argmax(axis=0)[:, None]
        return np.where(largest == 0, left, np.where(largest == 1, right, chosen))
