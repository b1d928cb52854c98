"""COF: how far a row's neighbours have to be chained to reach it."""

from __future__ import annotations

import numpy as np

from offnominal.core.card import card
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.neighbours import Indices, Neighbours

_CELLS = 1 << 23  # differences held at a time


@card(
    "cof",
    title="Enhancing Effectiveness of Outlier Detections for Low Density Patterns",
    year=2002,
    url="https://doi.org/10.1007/3-540-47887-6_53",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=False,
)
class COF(TableDetector):
    """Chaining distance of a row compared with its neighbours': where normal rows lie along lines or sheets.

    Parameters
    ----------
    neighbours : int, default 20
        Rows of a neighbourhood; fewer where there are fewer.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    The average chaining distance weighs the edges of the trail that starts at the row and takes in the
    nearest neighbour not yet reached, earlier edges more. Fit and score O(k²·d) a row beside the search of
    `KNN`.

    Source: Tang et al., PAKDD 2002.
    """

    def __init__(
        self,
        neighbours: int = 20,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.neighbours = neighbours
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    bank_: Matrix
    _search: Neighbours
    _chained: Matrix
    _around: Indices
    _least: float

    def _learn_rows(self, rows: Matrix) -> None:
        self.bank_ = rows

    def _prepared(self) -> None:
        self._search = Neighbours(self.bank_)
        _, self._around = self._search.others(min(self.neighbours, len(self.bank_) - 1))
        self._chained = self._chain(self.bank_, self._around)
        # Duplicates chain at no distance; held at a hair of the typical one, so that ratios stay finite.
        self._least = 1e-10 * float(np.median(self._chained)) or 1e-10 * float(self._chained.mean()) or 1e-10

    def _chain(self, rows: Matrix, around: Indices) -> Matrix:
        """Average chaining distance (n,) of rows (n, d) to their neighbours (n, k)."""
        k, width = around.shape[1], rows.shape[1]
        weights = 2 * (k - np.arange(k)) / (k * (k + 1))
        found = np.empty(len(rows))
        step = max(1, _CELLS // ((k + 1) * width))
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            points = np.concatenate([rows[part, None], self.bank_[around[part]]], axis=1)
            count = np.arange(len(points))
            reach = np.sqrt(((points[:, 1:] - points[:, :1]) ** 2).sum(axis=2))
            edges = np.empty((len(points), k))
            for step_of in range(k):
                nearest = reach.argmin(axis=1)
                edges[:, step_of] = reach[count, nearest]
                apart = points[:, 1:] - points[count, nearest + 1][:, None]
                closer = np.sqrt(np.einsum("ijk,ijk->ij", apart, apart))
                reach = np.where(np.isinf(reach), np.inf, np.minimum(reach, closer))
                reach[count, nearest] = np.inf
            found[part] = edges @ weights
        return found

    def _factor(self, chained: Matrix, around: Indices) -> Matrix:
        neighbours: Matrix = self._chained[around].mean(axis=1)
        return np.maximum(chained, self._least) / np.maximum(neighbours, self._least)

    def _score_rows(self, rows: Matrix) -> Matrix:
        _, around = self._search.search(rows, self._around.shape[1])
        return self._factor(self._chain(rows, around), around)

    def _left_out(self, rows: Matrix) -> tuple[Matrix, None]:
        return self._factor(self._chained, self._around), None
