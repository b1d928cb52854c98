"""CBLOF: distance to the centre of the nearest large cluster."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.kmeans import kmeans, squared_distances


@card(
    "cblof",
    title="Discovering cluster-based local outliers",
    year=2003,
    url="https://doi.org/10.1016/S0167-8655(03)00003-5",
    kind="detector",
    modality="table",
    setting=("full-shot", "noisy"),
    supervision="normal-only",
    scope="item",
    localises=True,
    explains=("distance",),
)
class CBLOF(TableDetector):
    """Distance to the nearest large cluster's centre: quick, for normal rows of several kinds.

    Parameters
    ----------
    clusters : int, default 8
    large_share : float, default 0.9
        The largest clusters that hold this share of the rows are large …
    large_ratio : float, default 5.0
        … as are those before the first drop in size by this factor.
    weighted : bool, default False
        Multiply by the size of the row's cluster, as the paper does; most often worse.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Clusters by k-means on at most 20 000 rows. Fit O(n·k·d), score O(k·d) a row. A row of a large cluster is
    compared with its own centre, one of a small cluster with the nearest large one.

    Source: He, Xu & Deng, Pattern Recognition Letters 2003.
    """

    def __init__(
        self,
        clusters: int = 8,
        large_share: float = 0.9,
        large_ratio: float = 5.0,
        weighted: bool = False,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.clusters = clusters
        self.large_share = large_share
        self.large_ratio = large_ratio
        self.weighted = weighted
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    centres_: Matrix
    sizes_: npt.NDArray[np.int64]

    def _learn_rows(self, rows: Matrix) -> None:
        self._settle(rows, kmeans(rows, self.clusters, generator(self.seed, "cblof")))

    def _learn_fold(self, rows: Matrix, whole: Self) -> None:
        # Leaving a fold out hardly moves the centres: steps from those of all rows lead there.
        self._settle(rows, kmeans(rows, self.clusters, generator(self.seed, "cblof"), start=whole.centres_))

    def _settle(self, rows: Matrix, centres: Matrix) -> None:
        sizes = np.bincount(squared_distances(rows, centres).argmin(axis=1), minlength=len(centres))
        order = np.argsort(-sizes, kind="stable")
        self.centres_, self.sizes_ = centres[order], sizes[order].astype(np.int64)

    def _prepared(self) -> None:
        if self.centres_.ndim != 2 or self.sizes_.shape != (len(self.centres_),):
            raise ValueError("centres and sizes do not fit together")

    def _large(self) -> int:
        """How many of the clusters, in order of size, are large."""
        enough = np.cumsum(self.sizes_) >= self.large_share * self.sizes_.sum()
        drops = self.sizes_[:-1] >= self.large_ratio * self.sizes_[1:]
        return 1 + int(np.argmax(np.concatenate([enough[:-1] | drops, [True]])))

    def _reference(self, rows: Matrix) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Cluster of each row, and the one it is compared with."""
        squared = squared_distances(rows, self.centres_)
        own, large = squared.argmin(axis=1), self._large()
        return own, np.where(own < large, own, squared[:, :large].argmin(axis=1))

    def _explained(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        own, reference = self._reference(rows)
        apart = (rows - self.centres_[reference]) ** 2
        distance = np.sqrt(apart.sum(axis=1))
        shares = apart / np.maximum(distance, 1e-150)[:, None]
        size = self.sizes_[own] if self.weighted else np.ones(1)
        return distance * size, shares * size[:, None]

    def _score_rows(self, rows: Matrix) -> Matrix:
        return self._explained(rows)[0]

    def _contributions(self, rows: Matrix) -> Matrix:
        return self._explained(rows)[1]
