"""KDE: a kernel density of the training rows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling

_ASKED = 500  # rows whose distance to their neighbours is looked at
_CELLS = 1 << 22  # kernel values held at a time


@card(
    "kde",
    title="Outlier Detection with Kernel Density Functions",
    year=2007,
    url="https://doi.org/10.1007/978-3-540-73499-4_6",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=False,
)
class KDE(TableDetector):
    """Minus log of a Gaussian kernel density: smooth scores for few columns.

    Parameters
    ----------
    bandwidth : float, default 0.0
        Standard deviation of the kernel, in scaled units; 0 takes the median distance of a training row to
        its √n-th nearest one over √2, at which a kernel has fallen to 1/e.
    kept : int, default 10 000
        Training rows the density stands on, drawn at random where there are more.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Score O(kept·d) a row, fit nothing. The best kernels for an estimate of the density, such as Scott's
    rule gives, are narrow beside the distances in many columns: a row near a single training row, or its
    duplicate, counts as normal. Distances to neighbours grow with the columns and stay within a cluster.
    Over 40 sets of ADBench, on which the default was also chosen, AUROC and average precision are 9 points
    above those of Scott's rule with anomalies among the training rows, and 2 and 3 points below them on
    normal training rows: set the bandwidth to n^(−1/(d + 4)) there.

    Source: Parzen 1962; Latecki, Lazarevic & Pokrajac, MLDM 2007.
    """

    def __init__(
        self,
        bandwidth: float = 0.0,
        kept: int = 10_000,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.bandwidth = bandwidth
        self.kept = kept
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    bank_: Matrix
    _mean: Matrix
    _centred: Matrix
    _width: float
    _own: npt.NDArray[np.intp]

    def _learn_rows(self, rows: Matrix) -> None:
        chosen = np.arange(len(rows))
        if len(rows) > self.kept:
            random = generator(self.seed, "kde")
            chosen = np.sort(random.choice(len(rows), self.kept, replace=False))
        self.bank_ = rows[chosen]
        self._own = np.full(len(rows), -1)  # place in the bank of each training row
        self._own[chosen] = np.arange(len(chosen))

    def _prepared(self) -> None:
        n, width = self.bank_.shape
        self._width = self.bandwidth or self._reach() or n ** (-1 / (width + 4))
        self._mean = self.bank_.mean(axis=0)
        self._centred = (self.bank_ - self._mean) / self._width

    def _reach(self) -> float:
        """Median distance of the bank's rows to their √n-th nearest, over √2; 0 where most are duplicates."""
        n = len(self.bank_)
        near = min(math.isqrt(n - 1) + 1, n - 1)
        random = generator(self.seed, "kde", "reach")
        asked = self.bank_[random.choice(n, min(n, _ASKED), replace=False)] - self.bank_.mean(axis=0)
        bank = self.bank_ - self.bank_.mean(axis=0)
        squared = np.einsum("ij,ij->i", asked, asked)[:, None] + np.einsum("ij,ij->i", bank, bank)
        squared -= 2 * asked @ bank.T
        reach = np.partition(squared, near, axis=1)[:, near]
        return float(np.sqrt(max(float(np.median(reach)), 0.0) / 2))

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._surprise(rows, np.full(len(rows), -1))

    def _left_out(self, rows: Matrix) -> tuple[Matrix, None]:
        return self._surprise(rows, self._own), None

    def _surprise(self, rows: Matrix, own: npt.NDArray[np.intp]) -> Matrix:
        """−log density of rows (n, d), each without the kernel of bank row ``own`` (−1: with all)."""
        n, width = self._centred.shape
        halves = 0.5 * np.einsum("ij,ij->i", self._centred, self._centred)
        found = np.empty(len(rows))
        step = max(1, _CELLS // n)
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            asked = (rows[part] - self._mean) / self._width
            powers = asked @ self._centred.T - halves  # −‖x − b‖²/2 up to what x adds
            itself = np.flatnonzero(own[part] >= 0)
            powers[itself, own[part][itself]] = -np.inf
            top = powers.max(axis=1)
            np.exp(powers - top[:, None], out=powers)
            count = n - (own[part] >= 0)
            log_sum = top + np.log(powers.sum(axis=1)) - 0.5 * np.einsum("ij,ij->i", asked, asked)
            found[part] = np.log(count) - log_sum
        surprise: Matrix = found + width * (math.log(self._width) + 0.5 * math.log(2 * math.pi))
        return surprise
