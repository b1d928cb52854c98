"""OCSVM: the half-space, in a kernel's feature space, that holds most rows."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling
from offnominal.table.one_class import solve_dual, solve_primal

Solver = Literal["auto", "exact", "nystroem"]

_EXACT_ROWS = 5_000
_CELLS = 1 << 22  # kernel values held at a time


@card(
    "ocsvm",
    title="Estimating the Support of a High-Dimensional Distribution",
    year=2001,
    url="https://doi.org/10.1162/089976601750264965",
    kind="detector",
    modality="table",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=False,
)
class OneClassSVM(TableDetector):
    """Distance beyond a smooth boundary around the training rows, with a Gaussian kernel.

    Parameters
    ----------
    nu : float, default 0.5
        Share of the training rows that may lie outside, in (0, 1].
    gamma : float, default 0.0
        Kernel exp(−gamma ‖x − y‖²); 0 takes 1 over (encoded columns times their variance).
    solver : {"auto", "exact", "nystroem"}, default "auto"
        Sequential minimal optimisation over all rows; or the same problem on the features of ``landmarks``
        rows, which costs O(n) and is close. "auto" is exact up to 5 000 rows.
    landmarks : int, default 300
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    Exact: fit O(n²) to O(n³), score O(support vectors·d) a row. Nyström: fit O(n·m·(m + d)), score O(m·(m +
    d)).

    Source: Schölkopf et al. 2001; Williams & Seeger, NIPS 2000 (Nyström).
    """

    def __init__(
        self,
        nu: float = 0.5,
        gamma: float = 0.0,
        solver: Solver = "auto",
        landmarks: int = 300,
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.nu = nu
        self.gamma = gamma
        self.solver = solver
        self.landmarks = landmarks
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    centres_: Matrix
    weights_: Matrix
    offset_: float
    gamma_: float
    """Score: ``offset_`` − Σ weights · kernel(x, centres)."""

    def _learn_rows(self, rows: Matrix) -> None:
        if not 0 < self.nu <= 1:
            raise ValueError(f"nu must lie in (0, 1], got {self.nu}")
        variance = float(rows.var())
        self.gamma_ = self.gamma or 1 / (rows.shape[1] * (variance if variance > 0 else 1.0))
        exact = self.solver == "exact" or (self.solver == "auto" and len(rows) <= _EXACT_ROWS)
        if exact:
            weights, self.offset_ = solve_dual(self._kernel(rows, rows), self.nu)
            used = weights > 0
            self.centres_, self.weights_ = rows[used], weights[used]
            return
        random = generator(self.seed, "ocsvm")
        chosen = np.sort(random.choice(len(rows), min(self.landmarks, len(rows)), replace=False))
        centres = np.unique(rows[chosen], axis=0)
        values, vectors = np.linalg.eigh(self._kernel(centres, centres))
        kept = values > 1e-10 * values[-1]
        root = vectors[:, kept] / np.sqrt(values[kept])  # features φ(x) = kernel(x, centres) · root
        features = np.concatenate(
            [
                self._kernel(rows[first : first + 4_096], centres) @ root
                for first in range(0, len(rows), 4_096)
            ]
        )
        normal, self.offset_ = solve_primal(features, self.nu)
        self.centres_, self.weights_ = centres, root @ normal

    def _prepared(self) -> None:
        if self.centres_.ndim != 2 or self.weights_.shape != (len(self.centres_),):
            raise ValueError("centres and weights do not fit together")

    def _kernel(self, rows: Matrix, centres: Matrix) -> Matrix:
        shift = centres.mean(axis=0)
        a, b = rows - shift, centres - shift
        squared = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b) - 2 * (a @ b.T)
        found: Matrix = np.exp(-self.gamma_ * np.maximum(squared, 0))
        return found

    def _score_rows(self, rows: Matrix) -> npt.NDArray[np.float64]:
        step = max(1, _CELLS // len(self.centres_))
        parts = [
            self._kernel(rows[first : first + step], self.centres_) @ self.weights_
            for first in range(0, len(rows), step)
        ]
        return self.offset_ - np.concatenate(parts)
