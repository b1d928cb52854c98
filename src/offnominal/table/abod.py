"""ABOD: how much the angles to other rows vary."""

from __future__ import annotations

import numpy as np

from offnominal.core.card import card
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.neighbours import Indices, Neighbours

_CELLS = 1 << 22  # numbers held at a time
_LEAST = 1e-300


@card(
    "abod",
    title="Angle-based outlier detection in high-dimensional data",
    year=2008,
    url="https://doi.org/10.1145/1401890.1401946",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=False,
)
class ABOD(TableDetector):
    """How little the angles to pairs of neighbours vary: rows outside see all others in one direction.

    Parameters
    ----------
    neighbours : int, default 10
        Rows whose pairs are looked at (FastABOD); fewer where there are fewer.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Score −log of the weighted variance, over pairs of neighbours (b, c), of ⟨ab, ac⟩ / (‖ab‖² ‖ac‖²) with
    weights 1 / (‖ab‖ ‖ac‖); neighbours equal to the row are left out. O(k²·d) a row beside the search of
    `KNN`.

    Source: Kriegel, Schubert & Zimek, KDD 2008.
    """

    def __init__(
        self,
        neighbours: int = 10,
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

    def _learn_rows(self, rows: Matrix) -> None:
        self.bank_ = rows

    def _prepared(self) -> None:
        self._search = Neighbours(self.bank_)

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._factor(rows, self._search.search(rows, min(self.neighbours, len(self.bank_)))[1])

    def _left_out(self, rows: Matrix) -> tuple[Matrix, None]:
        return self._factor(rows, self._search.others(min(self.neighbours, len(rows) - 1))[1]), None

    def _factor(self, rows: Matrix, around: Indices) -> Matrix:
        k = around.shape[1]
        first_of, second_of = np.triu_indices(k, 1)
        found = np.empty(len(rows))
        step = max(1, _CELLS // (k * max(rows.shape[1], k)))
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            apart = self.bank_[around[part]] - rows[part, None]
            products = apart @ apart.transpose(0, 2, 1)
            squares = products[:, np.arange(k), np.arange(k)]
            there = squares > 0
            with np.errstate(divide="ignore", invalid="ignore"):
                inverse = np.where(there, 1 / squares, 0.0)
            # 1 / (‖ab‖ ‖ac‖) as weight of ⟨ab, ac⟩ / (‖ab‖² ‖ac‖²)
            both = inverse[:, first_of] * inverse[:, second_of]
            weights = np.sqrt(both)
            angles = products[:, first_of, second_of] * both
            total = weights.sum(axis=1)
            mean = (weights * angles).sum(axis=1) / np.maximum(total, _LEAST)
            spread = (weights * (angles - mean[:, None]) ** 2).sum(axis=1) / np.maximum(total, _LEAST)
            # A row with fewer than two other rows around it than its own duplicates lies as deep as can be.
            spread[there.sum(axis=1) < 2] = 1 / _LEAST
            found[part] = -np.log(np.maximum(spread, _LEAST))
        return found
