"""Areas, best points and curves, read from `ThresholdCounts`."""

from __future__ import annotations

import numpy as np

from offnominal.metrics.counts import Floats, ThresholdCounts


def roc_points(counts: ThresholdCounts) -> tuple[Floats, Floats]:
    """False- and true-positive rate at every threshold, from (0, 0) to (1, 1); NaN for an absent class."""
    return _rate(counts.normal, counts.normals), _rate(counts.anomalous, counts.anomalies)


def overlap_points(counts: ThresholdCounts) -> tuple[Floats, Floats]:
    """False-positive rate and mean overlap of the regions at every threshold, from (0, 0)."""
    assert counts.overlap is not None
    return _rate(counts.normal, counts.normals), _rate(counts.overlap, float(counts.regions))


def area_to(x: Floats, y: Floats, limit: float) -> float:
    """Area under the straight-line curve (x, y) from 0 to ``limit``; x rises and reaches 1. NaN stays NaN."""
    if np.isnan(x[-1]) or np.isnan(y[-1]):
        return float("nan")
    inside = int(np.searchsorted(x, limit, side="right"))
    # A vertical rise at the limit itself has no width; the point before the limit and the crossing close it.
    xs = np.append(x[:inside], limit)
    # The reach between the two neighbours of the limit, not np.interp: x may hold equal neighbours.
    if inside < len(x):
        left, right = inside - 1, inside
        slope = (y[right] - y[left]) / (x[right] - x[left])
        edge = y[left] + slope * (limit - x[left])
    else:
        edge = y[-1]
    ys = np.append(y[:inside], edge)
    return float(np.sum(np.diff(xs) * (ys[1:] + ys[:-1])) / 2.0)


def roc_area(counts: ThresholdCounts) -> float:
    """Area under the ROC curve; NaN with one class only."""
    if not counts.two_classes:
        return float("nan")
    found = np.cumsum(counts.anomalous)
    doubled = np.dot(counts.normal, 2.0 * found - counts.anomalous)
    return float(doubled / (2.0 * counts.normals * counts.anomalies))


def precision_area(counts: ThresholdCounts) -> float:
    """Step-wise average precision; NaN without an anomaly."""
    if counts.anomalies == 0:
        return float("nan")
    found = np.cumsum(counts.anomalous)
    flagged = found + np.cumsum(counts.normal)
    return float(np.dot(counts.anomalous, found / np.maximum(flagged, 1e-300)) / counts.anomalies)


def best_f1(counts: ThresholdCounts) -> tuple[float, float]:
    """Greatest F1 and the highest threshold that attains it; (NaN, NaN) without an anomaly."""
    if counts.anomalies == 0:
        return float("nan"), float("nan")
    found = np.cumsum(counts.anomalous)
    flagged = found + np.cumsum(counts.normal)
    f1 = 2.0 * found / (flagged + counts.anomalies)
    at = int(np.argmax(f1))
    return float(f1[at]), float(counts.thresholds[at])


def _rate(steps: Floats, total: float) -> Floats:
    reached = np.concatenate(([0.0], np.cumsum(steps)))
    if total == 0:
        return np.full_like(reached, np.nan)
    return reached / total
