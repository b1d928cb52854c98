"""Feature bagging: local outlier factors on random subsets of columns."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.local_density import LocalDensity
from offnominal.table.neighbours import Neighbours

Combination = Literal["mean", "largest"]


@card(
    "feature_bagging",
    title="Feature bagging for outlier detection",
    year=2005,
    url="https://doi.org/10.1145/1081870.1081891",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=False,
)
class FeatureBagging(TableDetector):
    """Local outlier factors over many subsets of columns: steadier than one, where many columns are noise.

    Parameters
    ----------
    rounds : int, default 10
        Subsets, each of between half of the columns and all but one.
    neighbours : int, default 20
    combination : {"mean", "largest"}, default "mean"
        Of the rounds' factors: the paper's cumulative sum, or the largest.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Costs as many times `LOF` as there are rounds.

    Source: Lazarevic & Kumar, KDD 2005.
    """

    def __init__(
        self,
        rounds: int = 10,
        neighbours: int = 20,
        combination: Combination = "mean",
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.rounds = rounds
        self.neighbours = neighbours
        self.combination = combination
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    bank_: Matrix
    _columns: list[npt.NDArray[np.intp]]
    _densities: list[LocalDensity]

    def _learn_rows(self, rows: Matrix) -> None:
        self.bank_ = rows

    def _prepared(self) -> None:
        width = self.bank_.shape[1]
        random = generator(self.seed, "feature_bagging")
        sizes = random.integers(width // 2, max(width - 1, width // 2) + 1, self.rounds)
        self._columns = [np.sort(random.choice(width, max(int(size), 1), replace=False)) for size in sizes]
        self._densities = [
            LocalDensity(Neighbours(self.bank_[:, columns]), self.neighbours) for columns in self._columns
        ]

    def _score_rows(self, rows: Matrix) -> Matrix:
        each = [
            density.score(np.ascontiguousarray(rows[:, columns]))
            for density, columns in zip(self._densities, self._columns, strict=True)
        ]
        return self._combined(each)

    def _left_out(self, rows: Matrix) -> tuple[Matrix, None]:
        return self._combined([density.factors for density in self._densities]), None

    def _combined(self, each: list[Matrix]) -> Matrix:
        found: Matrix = np.mean(each, axis=0) if self.combination == "mean" else np.max(each, axis=0)
        return found
