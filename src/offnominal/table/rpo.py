"""Random projection outlyingness: the largest or the mean robust deviation over random views."""

from __future__ import annotations

from typing import Literal

import numpy as np

from offnominal.core.card import card
from offnominal.normality.outlyingness import ProjectionOutlyingness, unit_directions
from offnominal.table.blocks import Matrix
from offnominal.table.detector import TableDetector
from offnominal.table.encoding import Missing, Scaling


@card(
    "rpo",
    title="Breakdown Properties of Location Estimates Based on Halfspace Depth and Projected Outlyingness",
    year=1992,
    url="https://doi.org/10.1214/aos/1176348890",
    kind="detector",
    modality="table",
    setting=("full-shot", "noisy"),
    supervision="normal-only",
    scope="item",
    localises=True,
    explains=("distance",),
)
class RPO(TableDetector):
    """Deviation from the median over random one-dimensional views: robust against anomalies among the rows.

    Parameters
    ----------
    projections : int, default 1000
        Random directions.
    aggregate : {"max", "mean"}, default "mean"
        Over the directions: the largest approximates the classical outlyingness, which is constant on
        ellipses about the median; the mean is what S056 puts behind a network, calmer where rows are few.
    scaling, missing, seed
        As in every vector detector.

    Notes
    -----
    A column's contribution is its part of the signed deviations that the score is made of, measured from the
    column's median; it may be negative. It does not stream: medians of projections do not merge exactly. Fit
    O(n·d·k), score O(d·k) a row.

    Source: Donoho & Gasko, Annals of Statistics 1992 (max); Bauw et al., 2021 (mean).
    """

    def __init__(
        self,
        projections: int = 1_000,
        aggregate: Literal["max", "mean"] = "mean",
        scaling: Scaling = "standard",
        missing: Missing = "refuse",
        seed: int = 0,
    ) -> None:
        self.projections = projections
        self.aggregate = aggregate
        self.scaling = scaling
        self.missing = missing
        self.seed = seed

    medians_: Matrix
    spreads_: Matrix
    middle_: Matrix
    _measure: ProjectionOutlyingness

    def _learn_rows(self, rows: Matrix) -> None:
        directions = unit_directions(rows.shape[1], self.projections, seed=self.seed)
        measure = ProjectionOutlyingness.of(rows, directions)
        self.medians_, self.spreads_ = measure.medians, measure.spreads
        self.middle_ = np.median(rows, axis=0)

    def _prepared(self) -> None:
        directions = unit_directions(self.encoding.width, self.projections, seed=self.seed)
        if self.middle_.shape != (len(directions),):
            raise ValueError("outlyingness and encoding do not fit together")
        self._measure = ProjectionOutlyingness(directions, self.medians_, self.spreads_)

    def _score_rows(self, rows: Matrix) -> Matrix:
        apart = np.abs(self._measure(rows))
        found: Matrix = apart.max(axis=1) if self.aggregate == "max" else apart.mean(axis=1)
        return found

    def _contributions(self, rows: Matrix) -> Matrix:
        signed = self._measure(rows)
        weights = np.sign(signed) / signed.shape[1]
        if self.aggregate == "max":
            weights = np.zeros_like(signed)
            place = (np.arange(len(rows)), np.abs(signed).argmax(axis=1))
            weights[place] = np.sign(signed[place])
        found: Matrix = (rows - self.middle_) * ((weights / self.spreads_) @ self._measure.directions.T)
        return found
