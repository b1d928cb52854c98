"""Isolation forest: rows that random splits set apart early."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.table import forest
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling

_SPARED = 4  # training rows for each row of a tree from which on rows are judged by the other trees


@card(
    "iforest",
    title="Isolation Forest",
    year=2008,
    url="https://doi.org/10.1109/ICDM.2008.17",
    kind="detector",
    modality="table",
    setting=("full-shot", "noisy"),
    supervision="normal-only",
    scope="item",
    localises=False,
)
class IsolationForest(TableDetector):
    """How few random splits set a row apart: a robust first choice that costs the same at any size.

    Parameters
    ----------
    trees : int, default 100
    sample : int, default 256
        Rows of each tree.
    extension : int, default 0
        0 splits on one column at a time; more tilts the splits by that many further columns (extended
        isolation forest), d − 1 at most. Columns should then be on one scale.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Fit O(trees·sample·(d + log sample)), score O(trees·log sample) a row, whatever n. Splits are
    drawn among the columns that vary in the node. Decisions rest on the training rows, each scored by the
    trees that were not grown from it, where there are four times as many rows as a tree has; else on folds.
    Scores lie in (0, 1); ½ is what a row without structure gets.

    Source: Liu, Ting & Zhou, ICDM 2008; Hariri, Kind & Brunner, Extended Isolation Forest, TKDE 2021.
    """

    def __init__(
        self,
        trees: int = 100,
        sample: int = 256,
        extension: int = 0,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.trees = trees
        self.sample = sample
        self.extension = extension
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    forest_: dict[str, npt.NDArray[Any]]
    size_: int
    _drawn: npt.NDArray[np.intp]

    def _learn_rows(self, rows: Matrix) -> None:
        random = generator(self.seed, "iforest")
        self.forest_, self._drawn = forest.grow(rows, self.trees, self.sample, self.extension, random)
        self.size_ = min(self.sample, len(rows))

    def _prepared(self) -> None:
        forest.check(self.forest_, self.encoding.width)

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._scored_depth(forest.mean_depths(self.forest_, rows))

    def _left_out(self, rows: Matrix) -> tuple[Matrix, None] | None:
        # Each row is judged by the trees that have not seen it; they must be nearly all, or scores of rows
        # that are new, which all trees judge, would vary less.
        if _SPARED * self.size_ > len(rows):
            return None
        return self._scored_depth(forest.left_out_depths(self.forest_, self._drawn, rows)), None

    def _scored_depth(self, depth: Matrix) -> Matrix:
        return np.exp2(-depth / forest.average_path(self.size_))
