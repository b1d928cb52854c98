"""Distance to the nearest training rows."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.neighbours import Neighbours

Aggregate = Literal["largest", "mean", "median"]


@card(
    "knn",
    title="Efficient algorithms for mining outliers from large data sets",
    year=2000,
    url="https://doi.org/10.1145/342009.335437",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    explains=("distance",),
)
class KNN(TableDetector):
    """Distance to the nearest training rows: no assumption on their shape, hard to beat where rows are few.

    Parameters
    ----------
    neighbours : int, default 5
        How many nearest rows; fewer where there are fewer.
    aggregate : {"largest", "mean", "median"}, default "largest"
        Of their distances.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Fit O(n log n), score O(log n) a row where rows are narrow, O(n·d) where they are wide; n rows are kept.

    Source: Ramaswamy, Rastogi & Shim, SIGMOD 2000 (largest); Angiulli & Pizzuti, PKDD 2002 (mean).
    """

    def __init__(
        self,
        neighbours: int = 5,
        aggregate: Aggregate = "largest",
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.neighbours = neighbours
        self.aggregate = aggregate
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    bank_: Matrix
    _search: Neighbours

    def _learn_rows(self, rows: Matrix) -> None:
        self.bank_ = rows

    def _prepared(self) -> None:
        self._search = Neighbours(self.bank_)

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._summary(self._search.search(rows, min(self.neighbours, len(self.bank_)))[0])

    def _contributions(self, rows: Matrix) -> Matrix:
        return self._shares(rows, *self._search.search(rows, min(self.neighbours, len(self.bank_))))

    def _left_out(self, rows: Matrix) -> tuple[Matrix, Matrix] | None:
        if len(rows) < 2:
            return None
        distances, nearest = self._search.others(min(self.neighbours, len(rows) - 1))
        return self._summary(distances), self._shares(rows, distances, nearest)

    def _summary(self, distances: Matrix) -> Matrix:
        """One number of the distances (q, k)."""
        if self.aggregate == "largest":
            return distances[:, -1]
        return distances.mean(axis=1) if self.aggregate == "mean" else np.median(distances, axis=1)

    def _shares(self, rows: Matrix, distances: Matrix, nearest: npt.NDArray[np.intp]) -> Matrix:
        """Squared differences by column over the distance: for one neighbour they sum to the distance."""
        used = slice(-1, None) if self.aggregate == "largest" else slice(None)
        shares = np.zeros_like(rows)
        for place in range(nearest.shape[1])[used]:
            apart = (rows - self.bank_[nearest[:, place]]) ** 2
            shares += apart / np.maximum(distances[:, place, None], 1e-150)
        return shares / len(range(nearest.shape[1])[used])
