"""LOF: density compared with the neighbours' density."""

from __future__ import annotations

from offnominal.core.card import card
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.local_density import LocalDensity
from offnominal.table.neighbours import Neighbours


@card(
    "lof",
    title="LOF: Identifying Density-Based Local Outliers",
    year=2000,
    url="https://doi.org/10.1145/342009.335388",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=False,
)
class LOF(TableDetector):
    """How much sparser a row's surroundings are than its neighbours': where normal rows differ in density.

    Parameters
    ----------
    neighbours : int, default 20
        Rows of a neighbourhood; fewer where there are fewer.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Fit: the nearest rows of every row, O(n log n) where rows are narrow and O(n²·d) where they are wide;
    score as `KNN`. Decisions rest on the training rows' own factors, each row among the others.

    Source: Breunig et al., SIGMOD 2000.
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
    _density: LocalDensity

    def _learn_rows(self, rows: Matrix) -> None:
        self.bank_ = rows

    def _prepared(self) -> None:
        self._density = LocalDensity(Neighbours(self.bank_), self.neighbours)

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._density.score(rows)

    def _left_out(self, rows: Matrix) -> tuple[Matrix, None]:
        return self._density.factors, None
