"""Counts of normals and anomalies between falling thresholds: the one form every ranking measure reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ThresholdCounts:
    """How many normals and anomalies each step down to the next threshold adds.

    Items with equal scores are one step, so ties are exact: inside a step a ROC curve is a straight line.

    Attributes
    ----------
    thresholds : ndarray, shape (k,)
        Strictly falling; step i adds the scores in ``[thresholds[i], thresholds[i - 1])``.
    normal, anomalous : ndarray of float64, shape (k,)
        Number of normals and of anomalies that step i adds.
    overlap : ndarray of float64, shape (k,), or None
        Sum over regions of the share of the region that step i adds (region measures only).
    regions : int
        Number of regions behind ``overlap``.
    """

    thresholds: NDArray[np.floating]
    normal: Floats
    anomalous: Floats
    overlap: Floats | None = None
    regions: int = 0

    @property
    def normals(self) -> float:
        """Number of normals."""
        return float(self.normal.sum())

    @property
    def anomalies(self) -> float:
        """Number of anomalies."""
        return float(self.anomalous.sum())

    @property
    def two_classes(self) -> bool:
        """Whether both classes are there: without that no ranking measure is defined."""
        return self.normals > 0 and self.anomalies > 0


def count_items(anomalous: NDArray[np.bool_], scores: NDArray[np.floating]) -> ThresholdCounts:
    """Count items between their own distinct scores; arguments as `checks.labels_and_scores` returns them."""
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    found = np.cumsum(anomalous[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
    hits = np.diff(found[last], prepend=0)
    steps = np.diff(last + 1, prepend=0)
    return ThresholdCounts(ranked[last], (steps - hits).astype(np.float64), hits.astype(np.float64))


def count_pixels(
    values: NDArray[np.floating],
    anomalous: NDArray[np.intp],
    weighted: NDArray[np.intp],
    weights: Floats,
    regions: int,
) -> ThresholdCounts:
    """Count pixels exactly, with thresholds only where something anomalous changes.

    Between two neighbouring anomalous scores every curve runs straight, so the normals there are one step.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Scores of all pixels; sorted in place.
    anomalous : ndarray of intp, shape (p,)
        Positions of the anomalous pixels.
    weighted : ndarray of intp, shape (q,)
        Positions of the pixels that regions own; a position may occur once per region.
    weights : ndarray of float64, shape (q,)
        Share of its region that each of them adds.
    regions : int
        Number of regions.
    """
    levels, hits = np.unique(values[anomalous], return_counts=True)
    held = values[weighted]
    values.sort()
    n, k = len(values), len(levels)
    # In rising order the steps alternate: what lies strictly between two levels, which is normal, then what
    # equals a level.
    cuts = np.empty(2 * k + 2, dtype=np.intp)
    cuts[0], cuts[-1] = 0, n
    first = np.asarray(np.searchsorted(values, levels, side="left"))
    # Few levels are met again right after their first pixel: only those are searched from the right.
    after = np.asarray(first + 1)
    again = np.flatnonzero(values[np.minimum(after, n - 1)] == levels)
    after[again] = np.searchsorted(values, levels[again], side="right")
    cuts[1:-1:2], cuts[2:-1:2] = first, after
    normal = np.diff(cuts).astype(np.float64)
    normal[1::2] -= hits
    thresholds = np.empty(2 * k + 1, dtype=values.dtype)
    thresholds[1::2] = levels
    if n:
        thresholds[0::2] = values[np.minimum(cuts[:-1:2], n - 1)]
    found = np.zeros(2 * k + 1)
    found[1::2] = hits
    overlap = np.zeros(2 * k + 1)
    if len(weighted):
        place = np.searchsorted(levels, held)
        overlap[1::2] = np.bincount(place, weights=weights, minlength=k)
    kept = np.flatnonzero((normal > 0) | (found > 0))[::-1]
    return ThresholdCounts(thresholds[kept], normal[kept], found[kept], overlap[kept], regions)
