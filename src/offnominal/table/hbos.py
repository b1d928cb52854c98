"""HBOS: a histogram of each column."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.table.column_ranks import Matrix
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.rank_detector import RankDetector

Bins = Literal["static", "dynamic"]


@card(
    "hbos",
    title="Histogram-based Outlier Score (HBOS): A fast Unsupervised Anomaly Detection Algorithm",
    year=2012,
    url="https://www.goldiges.de/publications/HBOS-KI-2012.pdf",
    kind="detector",
    modality="table",
    setting=("full-shot", "noisy"),
    supervision="normal-only",
    scope="item",
    localises=True,
    streams=True,
    explains=("distance",),
)
class HBOS(RankDetector):
    """Rarity of each value in its column's histogram, summed: the fastest, blind to how columns go together.

    Parameters
    ----------
    bins : int, default 10
        Bins of a column's histogram; 0 takes the square root of the number of rows, at most 200.
    kind : {"static", "dynamic"}, default "static"
        Bins of one width, or of about one number of rows each.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Fit O(n·d·log n), score O(d·log bins) a row. A bin's height is its share of rows over its width relative
    to the highest bin of the column; half a row is added to each bin, so that an empty one is rare and not
    impossible. Outside the range of the training rows lies a bin without rows, as wide as the mean bin.

    Source: Goldstein & Dengel, KI 2012.
    """

    def __init__(
        self,
        bins: int = 10,
        kind: Bins = "static",
        scaling: Scaling = "none",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.bins = bins
        self.kind = kind
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    _edges: list[Matrix]
    _rarity: list[Matrix]
    _without: list[Matrix]
    """Rarity of each bin with one of its rows taken out."""
    _ends: list[list[tuple[float, float]]]
    """Values of each column that one row alone has and that end its range; their rarity without that row."""

    def _prepared(self) -> None:
        self._edges, self._rarity, self._without = [], [], []
        self._ends = []
        for values, weights in self._learned_ranks().columns():
            edges = self._cut(values, weights)
            rarity, without = _rarities(values, weights, edges)
            self._edges.append(edges)
            self._rarity.append(rarity)
            self._without.append(without)
            self._ends.append(_only_ones(values, weights, rarity))

    def _cut(self, values: Matrix, weights: npt.NDArray[np.int64]) -> Matrix:
        """Edges of the bins of a column: at least one bin."""
        low, high = float(values[0]), float(values[-1])
        if not low < high:
            unit = max(abs(low), 1.0) * 1e-9
            return np.array([low - unit, low + unit])
        count = self.bins or int(np.clip(np.sqrt(weights.sum()), 5, 200))
        if self.kind == "static":
            return np.linspace(low, high, count + 1)
        below = np.cumsum(weights)
        inner = values[np.searchsorted(below, below[-1] * np.arange(1, count) / count)]
        edges = np.unique(np.concatenate([[low], inner, [high]]))
        return edges if len(edges) > 1 else np.array([low, high])

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._explained(rows)[0]

    def _contributions(self, rows: Matrix) -> Matrix:
        parts = np.empty(rows.shape)
        for column, (edges, rarity) in enumerate(zip(self._edges, self._rarity, strict=True)):
            parts[:, column] = rarity[_bin(edges, rows[:, column])]
        return parts

    def _explained(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        parts = self._contributions(rows)
        return parts.sum(axis=1), parts

    def _left_out(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        parts = np.empty(rows.shape)
        for column, (edges, without) in enumerate(zip(self._edges, self._without, strict=True)):
            values = np.ascontiguousarray(rows[:, column])
            parts[:, column] = without[_bin(edges, values)]
            for value, rarity in self._ends[column]:
                parts[values == value, column] = rarity
        return parts.sum(axis=1), parts


def _bin(edges: Matrix, values: Matrix) -> npt.NDArray[np.intp]:
    """Number of the bin: 0 below the first edge, the last belongs to the last bin."""
    place = np.searchsorted(edges, values, side="right")
    place[values == edges[-1]] = len(edges) - 1
    return place


def _only_ones(values: Matrix, weights: npt.NDArray[np.int64], rarity: Matrix) -> list[tuple[float, float]]:
    """Ends of a column that are one row's, with that row's rarity in the histogram of the others.

    It lies beyond that one, whose bins are narrower by as much as the range is.
    """
    found = []
    for end, beside, other in ((0, 1, -1), (-1, -2, 0)):
        if len(values) > 1 and weights[end] == 1:
            share = float((values[other] - values[beside]) / (values[other] - values[end]))
            found.append((float(values[end]), float(rarity[end] + (np.log(share) if share > 0 else 0.0))))
    return found


def _rarities(values: Matrix, weights: npt.NDArray[np.int64], edges: Matrix) -> tuple[Matrix, Matrix]:
    """Minus log of each bin's height relative to the highest; first and last are outside.

    Once with all rows, and once with a row of that bin taken out.
    """
    counts = np.bincount(_bin(edges, values), weights, minlength=len(edges) + 1)
    widths = np.diff(edges)
    outside = [widths.mean()]
    widths = np.concatenate([outside, widths, outside])
    heights = (counts + 0.5) / widths
    fewer = (np.maximum(counts - 1, 0) + 0.5) / widths
    order = np.argsort(heights)
    highest = np.full(len(heights), heights[order[-1]])
    highest[order[-1]] = max(heights[order[-2]], fewer[order[-1]])
    return -np.log(heights / heights.max()), -np.log(fewer / highest)
