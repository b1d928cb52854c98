"""MCD: distance under the Gaussian of the tightest half of the rows."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.shrinkage import shrunk

_SEARCHED = 1_500  # rows on which starting subsets are compared
_STARTS = 40
_KEPT = 4  # starts that are followed to the end


@card(
    "mcd",
    title="A Fast Algorithm for the Minimum Covariance Determinant Estimator",
    year=1999,
    url="https://doi.org/10.1080/00401706.1999.10485670",
    kind="detector",
    modality="table",
    setting=("full-shot", "noisy"),
    supervision="normal-only",
    scope="item",
    localises=True,
    explains=("distance",),
)
class MCD(TableDetector):
    """Mahalanobis distance from a robust mean and covariance: one cloud, not all of it normal.

    Parameters
    ----------
    support : float, default 0.0
        Share of the rows taken for normal; 0 takes (n + d + 1) / 2 rows, the most robust choice.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    FastMCD: concentration steps from random starts on at most 1 500 rows, the best followed on all, then one
    reweighting step. Score: the squared distance. Fit O(steps·n·d²), score O(d²) a row. Covariances are
    shrunk by what few rows make necessary (see `shrunk`), as in the regularised estimator of Boudt et al.
    2020.

    Source: Rousseeuw & Van Driessen, Technometrics 1999.
    """

    def __init__(
        self,
        support: float = 0.0,
        scaling: Scaling = "robust",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.support = support
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    mean_: Matrix
    precision_: Matrix

    def _learn_rows(self, rows: Matrix) -> None:
        kept = self._kept(rows)
        self._settle(rows, kept, *self._search(rows, kept, generator(self.seed, "mcd")))

    def _learn_fold(self, rows: Matrix, whole: Self) -> None:
        # Leaving a fold out hardly moves the subset: steps from the one of all rows lead there.
        kept = self._kept(rows)
        covariance: Matrix = np.asarray(np.linalg.inv(whole.precision_), dtype=np.float64)
        self._settle(rows, kept, *_concentrate(rows, whole.mean_, covariance, kept, 100)[1:])

    def _kept(self, rows: Matrix) -> int:
        """Rows of the subset."""
        n, width = rows.shape
        share = self.support or (n + width + 1) / (2 * n)
        return int(np.clip(np.ceil(share * n), min(n, 2), n))

    def _settle(self, rows: Matrix, kept: int, mean: Matrix, covariance: Matrix) -> None:
        from scipy.stats import chi2

        width = rows.shape[1]
        # Consistent for a Gaussian, then one step with all rows that are not far off.
        squared = _distances(rows, mean, covariance)
        covariance = covariance * _consistent(float(np.median(squared)), float(chi2.ppf(0.5, width)))
        near = _distances(rows, mean, covariance) <= chi2.ppf(0.975, width)
        if near.sum() >= kept:
            mean, covariance = _gaussian(rows[near])
            squared = _distances(rows, mean, covariance)
            covariance = covariance * _consistent(float(np.median(squared)), float(chi2.ppf(0.5, width)))
        self.mean_ = mean
        self.precision_ = np.asarray(np.linalg.inv(covariance), dtype=np.float64)

    def _search(self, rows: Matrix, kept: int, random: np.random.Generator) -> tuple[Matrix, Matrix]:
        n, width = rows.shape
        if kept >= n:
            return _gaussian(rows)
        some, few = rows, kept
        if n > _SEARCHED:
            some = rows[np.sort(random.choice(n, _SEARCHED, replace=False))]
            few = max(2, round(kept / n * _SEARCHED))
        starts = []
        for _ in range(_STARTS):
            chosen = random.choice(len(some), min(width + 1, len(some)), replace=False)
            starts.append(_concentrate(some, *_gaussian(some[chosen]), few, 2))
        starts.sort(key=lambda found: found[0])
        best = [_concentrate(rows, mean, covariance, kept, 100) for _, mean, covariance in starts[:_KEPT]]
        _, mean, covariance = min(best, key=lambda found: found[0])
        return mean, covariance

    def _prepared(self) -> None:
        if self.precision_.shape != (len(self.mean_), len(self.mean_)):
            raise ValueError("mean and precision do not fit together")

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._explained(rows)[0]

    def _explained(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        parts = self._contributions(rows)
        return parts.sum(axis=1), parts

    def _contributions(self, rows: Matrix) -> Matrix:
        apart = rows - self.mean_
        return apart * (apart @ self.precision_)


def _concentrate(
    rows: Matrix, mean: Matrix, covariance: Matrix, kept: int, steps: int
) -> tuple[float, Matrix, Matrix]:
    """C-steps: the Gaussian of the ``kept`` rows nearest to the last one; the determinant never grows."""
    before = np.inf
    for _ in range(steps):
        nearest = np.argpartition(_distances(rows, mean, covariance), kept - 1)[:kept]
        mean, covariance = _gaussian(rows[nearest])
        volume = float(np.linalg.slogdet(covariance)[1])
        if volume >= before - 1e-9:
            break
        before = volume
    return float(np.linalg.slogdet(covariance)[1]), mean, covariance


def _gaussian(rows: Matrix) -> tuple[Matrix, Matrix]:
    mean: Matrix = rows.mean(axis=0)
    apart = rows - mean
    return mean, shrunk(apart.T @ apart / len(rows), len(rows))


def _distances(rows: Matrix, mean: Matrix, covariance: Matrix) -> npt.NDArray[np.float64]:
    white = np.linalg.solve(np.linalg.cholesky(covariance), (rows - mean).T)
    found: Matrix = np.einsum("ji,ji->i", white, white)
    return found


def _consistent(median: float, expected: float) -> float:
    """Factor that brings the median squared distance to that of a Gaussian."""
    return median / expected if median > 0 else 1.0
