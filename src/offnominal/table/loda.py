"""LODA: histograms of sparse random projections."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling

_BLOCK = 4_096  # rows projected at a time
_SEARCHED = 5_000  # rows on which the number of bins is chosen
_TRIED = np.array([1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 80, 100])


@card(
    "loda",
    title="Loda: Lightweight on-line detector of anomalies",
    year=2016,
    url="https://doi.org/10.1007/s10994-015-5521-0",
    kind="detector",
    modality="table",
    setting=("full-shot", "noisy"),
    supervision="normal-only",
    scope="item",
    localises=True,
    explains=("distance",),
)
class LODA(TableDetector):
    """Mean rarity over many random one-dimensional views: quick at any size, says which columns matter.

    Parameters
    ----------
    projections : int, default 100
    bins : int, default 0
        Bins of a histogram; 0 chooses by penalised likelihood for each projection (Birgé & Rozenholc 2006).
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Each projection has √d normal weights. Score: mean of −log density; half a row is added to each bin, and
    outside the histogram counts as an empty one. A column's contribution is how much more the projections
    that use it are surprised than those that do not; the paper (Sec. 3.3) divides by the standard error,
    which makes the columns of quiet rows look as telling as those of loud ones. Fit O(n·k·√d), score O(k·√d)
    a row.

    Source: Pevný, Machine Learning 2016.
    """

    def __init__(
        self,
        projections: int = 100,
        bins: int = 0,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.projections = projections
        self.bins = bins
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    weights_: Matrix
    lows_: Matrix
    widths_: Matrix
    rarities_: Matrix
    counts_: npt.NDArray[np.int64]

    def _learn_rows(self, rows: Matrix) -> None:
        random = generator(self.seed, "loda")
        width = rows.shape[1]
        used = max(1, round(np.sqrt(width)))
        self.weights_ = np.zeros((width, self.projections))
        for place in range(self.projections):
            chosen = random.choice(width, used, replace=False)
            self.weights_[chosen, place] = random.standard_normal(used)
        some = rows
        if len(rows) > _SEARCHED:
            some = rows[np.sort(random.choice(len(rows), _SEARCHED, replace=False))]
        self.counts_ = np.array([self.bins or _best_bins(values) for values in (some @ self.weights_).T])
        blocks = [rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK)]
        lows = np.min([(block @ self.weights_).min(axis=0) for block in blocks], axis=0)
        highs = np.max([(block @ self.weights_).max(axis=0) for block in blocks], axis=0)
        flat = highs - lows <= 1e-12 * np.maximum(np.abs(highs), np.abs(lows))
        self.lows_ = np.where(flat, lows - 0.5, lows)
        self.widths_ = np.where(flat, 1.0, highs - lows) / self.counts_
        most = int(self.counts_.max()) + 2
        filled = np.zeros(self.projections * most, np.int64)
        for block in blocks:
            places = self._places(block @ self.weights_) + most * np.arange(self.projections)
            filled += np.bincount(places.ravel(), minlength=len(filled))
        total = len(rows) + 0.5 * (self.counts_ + 2)
        density = (filled.reshape(-1, most) + 0.5) / (total * self.widths_)[:, None]
        self.rarities_ = -np.log(density)  # beyond a histogram's own bins nothing is looked up

    def _prepared(self) -> None:
        k = len(self.counts_)
        shapes = (self.weights_.shape, self.lows_.shape, self.widths_.shape, len(self.rarities_))
        if (
            shapes != ((self.encoding.width, k), (k,), (k,), k)
            or self.counts_.max() + 2 > self.rarities_.shape[1]
        ):
            raise ValueError("projections and histograms do not fit together")

    def _places(self, projected: Matrix) -> npt.NDArray[np.intp]:
        """Bin of each projected value: 0 below the histogram, ``count + 1`` above it."""
        scaled = (projected - self.lows_) / self.widths_
        # The largest training value lies on the last edge; rounding must not push it out, nor the least.
        edge = 1e-9 * self.counts_
        inside = (scaled >= -edge) & (scaled <= self.counts_ + edge)
        place = 1 + np.clip(np.floor(scaled), 0, self.counts_ - 1)
        outside = np.where(scaled < 0, 0, self.counts_ + 1)
        return np.where(inside, place, outside).astype(np.intp)

    def _surprises(self, rows: Matrix) -> Matrix:
        place = self._places(rows @ self.weights_)
        return self.rarities_[np.arange(len(self.counts_)), place]

    def _score_rows(self, rows: Matrix) -> Matrix:
        found: Matrix = self._surprises(rows).mean(axis=1)
        return found

    def _contributions(self, rows: Matrix) -> Matrix:
        surprises = self._surprises(rows)
        uses = (self.weights_.T != 0).astype(np.float64)
        used = uses.sum(axis=0)
        with_column = surprises @ uses / np.maximum(used, 1)
        without = surprises @ (1 - uses) / np.maximum(len(uses) - used, 1)
        found: Matrix = with_column - without
        return found


def _best_bins(values: Matrix) -> int:
    """Number of equal bins, of those tried, that maximises the penalised likelihood of the values."""
    ordered = np.sort(values)
    n, low, high = len(ordered), float(ordered[0]), float(ordered[-1])
    if not low < high:
        return 1
    best, chosen = -np.inf, 1
    for bins in _TRIED[max(n / np.log(max(n, 3)), 1) >= _TRIED].tolist():
        edges = np.linspace(low, high, bins + 1)[1:-1]
        counts = np.diff(np.concatenate([[0], np.searchsorted(ordered, edges), [n]]))
        there = counts[counts > 0]
        value = float((there * np.log(bins * there / n)).sum()) - (bins - 1 + np.log(bins) ** 2.5)
        if value > best:
            best, chosen = value, bins
    return chosen
