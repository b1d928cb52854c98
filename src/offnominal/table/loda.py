"""LODA: histograms of sparse random projections."""

from __future__ import annotations

from collections import Counter

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
_EDGES = np.concatenate([np.arange(bins + 1) for bins in _TRIED])  # numbers of the edges of all histograms
_STARTS = np.concatenate([[0], np.cumsum(_TRIED + 1)[:-1]])
_INNER = np.delete(np.arange(len(_EDGES) - 1), (_STARTS + _TRIED)[:-1])  # differences within a histogram
_FIRST = np.concatenate([[0], np.cumsum(_TRIED)[:-1]])
_MANY = 5_000  # training rows from which on a single one has no say in the choice of bins


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
        return self._bins((projected - self.lows_) / self.widths_)

    def _bins(self, scaled: Matrix) -> npt.NDArray[np.intp]:
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
        return self._shares(self._surprises(rows))

    def _explained(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        surprises = self._surprises(rows)
        return surprises.mean(axis=1), self._shares(surprises)

    def _left_out(self, rows: Matrix) -> tuple[Matrix, Matrix] | None:
        if len(rows) < _MANY:  # the choice of bins would know the row
            return None
        # A bin's count follows from its rarity; a row takes one off the count of its own.
        k, volume = np.arange(len(self.counts_)), self.widths_[:, None]
        total = len(rows) + 0.5 * (self.counts_[:, None] + 2)
        counts = np.rint(np.exp(-self.rarities_) * total * volume - 0.5)
        fewer = -np.log((np.maximum(counts - 1, 0) + 0.5) / ((total - 1) * volume))
        scores, shares = np.empty(len(rows)), np.empty(rows.shape)
        edge = 1e-9 * self.counts_
        ends: list[tuple[int, int]] = []
        for first in range(0, len(rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            scaled = (rows[part] @ self.weights_ - self.lows_) / self.widths_
            surprises = fewer[k, self._bins(scaled)]
            scores[part], shares[part] = surprises.mean(axis=1), self._shares(surprises)
            for side, there in ((0, scaled <= edge), (1, scaled >= self.counts_ - edge)):
                at, projection = np.nonzero(there)
                ends += zip((2 * projection + side).tolist(), (at + first).tolist(), strict=True)
        # The only row at an end of a histogram lies beyond the one that the others make.
        times = Counter(end for end, _ in ends)
        alone: dict[int, list[int]] = {}
        for end, row in ends:
            if times[end] == 1:
                alone.setdefault(row, []).append(end // 2)
        for row, projections in alone.items():
            surprises = fewer[k, self._places(rows[row : row + 1] @ self.weights_)]
            surprises[0, projections] = fewer[projections, 0]
            scores[row], shares[row] = surprises.mean(), self._shares(surprises)[0]
        return scores, shares

    def _shares(self, surprises: Matrix) -> Matrix:
        """How much more projections that use a column are surprised than the others are (n, d)."""
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
    # The edges of all histograms are looked up at once; the last place of each is n, the first of the next 0.
    place = np.searchsorted(ordered, low + _EDGES * np.repeat((high - low) / _TRIED, _TRIED + 1))
    place[_STARTS] = 0
    place[_STARTS + _TRIED] = n
    counts = np.diff(place)[_INNER]
    logarithms = np.log(np.maximum(counts, 1))
    entropy = np.add.reduceat(counts * logarithms, _FIRST)
    value = entropy + n * np.log(_TRIED / n) - (_TRIED - 1 + np.log(_TRIED) ** 2.5)
    value[max(n / np.log(max(n, 3)), 1) < _TRIED] = -np.inf
    return int(_TRIED[value.argmax()])
