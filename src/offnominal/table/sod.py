"""SOD: deviation in the columns in which the neighbours agree."""

from __future__ import annotations

import numpy as np

from offnominal.core.card import card
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.neighbours import Indices, Neighbours

_CELLS = 1 << 22  # numbers held at a time


@card(
    "sod",
    title="Outlier Detection in Axis-Parallel Subspaces of High Dimensional Data",
    year=2009,
    url="https://doi.org/10.1007/978-3-642-01307-2_86",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    explains=("distance",),
)
class SOD(TableDetector):
    """Distance to the neighbours' centre in the columns in which they agree: for many columns, few that tell.

    Parameters
    ----------
    neighbours : int, default 20
        Rows that may become references; fewer where there are fewer.
    references : int, default 10
        Rows of the reference set: those of the neighbours that share most neighbours with the row.
    agreement : float, default 0.8
        A column counts where the references' variance is below this share of their mean variance.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    The paper draws references from all rows by shared neighbours; here from the row's own neighbours, since
    others share few: O(k² + l·d) a row beside the search of `KNN`, in place of O(n).

    Source: Kriegel et al., PAKDD 2009.
    """

    def __init__(
        self,
        neighbours: int = 20,
        references: int = 10,
        agreement: float = 0.8,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.neighbours = neighbours
        self.references = references
        self.agreement = agreement
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    bank_: Matrix
    _search: Neighbours
    _around: Indices

    def _learn_rows(self, rows: Matrix) -> None:
        self.bank_ = rows

    def _prepared(self) -> None:
        self._search = Neighbours(self.bank_)
        self._around = np.sort(self._search.others(min(self.neighbours, len(self.bank_) - 1))[1], axis=1)

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._degree(rows, self._search.search(rows, self._around.shape[1])[1])[0]

    def _contributions(self, rows: Matrix) -> Matrix:
        return self._degree(rows, self._search.search(rows, self._around.shape[1])[1])[1]

    def _left_out(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        return self._degree(rows, self._search.others(self._around.shape[1])[1])

    def _degree(self, rows: Matrix, around: Indices) -> tuple[Matrix, Matrix]:
        """Scores (n,) and what each column adds (n, d)."""
        scores, shares = np.empty(len(rows)), np.empty(rows.shape)
        k = around.shape[1]
        count = min(self.references, k)
        step = max(1, _CELLS // (k * max(k, rows.shape[1])))
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            chosen = np.take_along_axis(around[part], self._most_shared(around[part])[:, :count], axis=1)
            references = self.bank_[chosen]
            spread = references.var(axis=1)
            relevant = spread < self.agreement * spread.mean(axis=1, keepdims=True)
            relevant |= ~relevant.any(axis=1, keepdims=True)  # where none agrees more than others, all count
            apart = np.where(relevant, (rows[part] - references.mean(axis=1)) ** 2, 0.0)
            distance = np.sqrt(apart.sum(axis=1))
            columns = relevant.sum(axis=1)
            scores[part] = distance / columns
            shares[part] = apart / (np.maximum(distance, 1e-150) * columns)[:, None]
        return scores, shares

    def _most_shared(self, around: Indices) -> Indices:
        """Places (n, k) of the neighbours, those that share most neighbours with the row first."""
        n, k = around.shape
        sets = np.sort(around, axis=1)
        theirs = self._around[around].reshape(n, -1)
        # Membership of each of their neighbours in the row's own, by one search over all rows.
        rank = len(self.bank_)
        own = (sets + rank * np.arange(n)[:, None]).ravel()
        asked = (theirs + rank * np.arange(n)[:, None]).ravel()
        place = np.minimum(np.searchsorted(own, asked), len(own) - 1)
        shared = (own[place] == asked).reshape(n, k, -1).sum(axis=2)
        order: Indices = np.argsort(-shared, axis=1, kind="stable")
        return order
