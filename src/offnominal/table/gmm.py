"""GMM: a mixture of Gaussians."""

from __future__ import annotations

import math
from typing import Self

import numpy as np

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.kmeans import kmeans, squared_distances
from offnominal.table.shrinkage import shrunk

_TOLERANCE = 1e-3  # of the mean log-likelihood, at which EM stops
_ROUNDS = 100


@card(
    "gmm",
    title="Maximum Likelihood from Incomplete Data via the EM Algorithm",
    year=1977,
    url="https://doi.org/10.1111/j.2517-6161.1977.tb01600.x",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    explains=("distance",),
)
class GMM(TableDetector):
    """Minus log-likelihood under a mixture of Gaussians: a few kinds of normal, each correlated.

    Parameters
    ----------
    components : int, default 3
        Gaussians with full covariance; fewer where a component would have under two rows a column.
    regularisation : float, default 1e-4
        Added to each variance, in scaled units.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    EM from k-means; each covariance is shrunk by what few rows make necessary (see `shrunk`). Fit
    O(rounds·n·k·d²), score O(k·d²) a row. A column's contribution is its part of half the squared Mahalanobis
    distance to the components, weighed by how likely each is to have made the row.

    Source: Dempster, Laird & Rubin 1977.
    """

    def __init__(
        self,
        components: int = 3,
        regularisation: float = 1e-4,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.components = components
        self.regularisation = regularisation
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    log_weights_: Matrix
    means_: Matrix
    whitenings_: Matrix
    """Matrices (k, d, d) W with Wᵀ W the inverse covariance, lower triangular."""

    def _learn_rows(self, rows: Matrix) -> None:
        count = max(1, min(self.components, len(rows) // (2 * rows.shape[1] + 1)))
        centres = kmeans(rows, count, generator(self.seed, "gmm"))
        shares = np.zeros((len(rows), len(centres)))
        shares[np.arange(len(rows)), squared_distances(rows, centres).argmin(axis=1)] = 1
        self._settle(rows, shares)

    def _learn_fold(self, rows: Matrix, whole: Self) -> None:
        # Leaving a fold out hardly moves the mixture: steps from the one of all rows lead there.
        each = whole._log_densities(rows)
        likelihood = _log_sum(each)
        self._settle(rows, np.exp(each - likelihood[:, None]), float(likelihood.mean()))

    def _settle(self, rows: Matrix, shares: Matrix, before: float = -np.inf) -> None:
        """Maximisation and expectation from components' shares (n, k) of rows until the likelihood stays."""
        for _ in range(_ROUNDS):
            self._maximise(rows, shares)
            each = self._log_densities(rows)
            likelihood = _log_sum(each)
            if abs(float(likelihood.mean()) - before) < _TOLERANCE:
                break
            before = float(likelihood.mean())
            shares = np.exp(each - likelihood[:, None])

    def _maximise(self, rows: Matrix, shares: Matrix) -> None:
        counts = shares.sum(axis=0) + 1e-12
        self.log_weights_ = np.log(counts / counts.sum())
        self.means_ = shares.T @ rows / counts[:, None]
        whitenings = []
        for share, count, mean in zip(shares.T, counts, self.means_, strict=True):
            apart = rows - mean
            covariance = (apart * share[:, None]).T @ apart / count
            covariance = shrunk(covariance, count)
            covariance[np.diag_indices(rows.shape[1])] += self.regularisation
            whitenings.append(np.linalg.inv(np.linalg.cholesky(covariance)))
        self.whitenings_ = np.tril(np.stack(whitenings))

    def _prepared(self) -> None:
        k, width = self.means_.shape
        if self.whitenings_.shape != (k, width, width) or self.log_weights_.shape != (k,):
            raise ValueError("weights, means and covariances do not fit together")

    def _log_densities(self, rows: Matrix) -> Matrix:
        """log(weight · density) (n, k) of each component."""
        found = np.empty((len(self.means_), len(rows))).T  # a component's values lie side by side
        for place, (mean, whitening) in enumerate(zip(self.means_, self.whitenings_, strict=True)):
            white = (rows - mean) @ whitening.T
            found[:, place] = np.log(np.diag(whitening)).sum() - 0.5 * np.einsum("ij,ij->i", white, white)
        joint: Matrix = found + self.log_weights_ - 0.5 * rows.shape[1] * math.log(2 * math.pi)
        return joint

    def _score_rows(self, rows: Matrix) -> Matrix:
        return -_log_sum(self._log_densities(rows))

    def _contributions(self, rows: Matrix) -> Matrix:
        return self._explained(rows)[1]

    def _explained(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        each = self._log_densities(rows)
        surprise = -_log_sum(each)
        shares = np.exp(each + surprise[:, None])
        parts = np.zeros_like(rows)
        for place, (mean, whitening) in enumerate(zip(self.means_, self.whitenings_, strict=True)):
            apart = rows - mean
            parts += shares[:, place, None] * 0.5 * apart * (apart @ (whitening.T @ whitening))
        return surprise, parts


def _log_sum(values: Matrix) -> Matrix:
    top = values.max(axis=1)
    found: Matrix = top + np.log(np.exp(values - top[:, None]).sum(axis=1))
    return found
