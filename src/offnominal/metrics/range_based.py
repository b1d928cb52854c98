"""Precision and recall of predicted ranges against true ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offnominal.metrics.counts import Floats
from offnominal.metrics.regions import Positions
from offnominal.metrics.spans import Flags, labels_and_predictions, spans, touched

Bias = Literal["flat", "front", "middle", "back"]
Cardinality = Literal["reciprocal", "one"]


def range_recall(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    alpha: float = 0.0,
    bias: Bias = "flat",
    cardinality: Cardinality = "reciprocal",
) -> float:
    """Mean over the true anomalies of how well the predicted ranges cover each.

    An anomaly earns ``alpha`` for being touched at all and (1 − ``alpha``) times the weight of its steps that
    are predicted, times a factor for being found in one piece.

    Parameters
    ----------
    labels, predictions : array_like, shape (n,)
        0 normal, 1 anomalous, in the order of time.
    alpha : float, default 0
        Reward of existence, in [0, 1].
    bias : {"flat", "front", "middle", "back"}, default "flat"
        Which steps of an anomaly weigh more; "front" rewards early detection.
    cardinality : {"reciprocal", "one"}, default "reciprocal"
        Factor where x > 1 predicted ranges overlap the anomaly: 1 / x, or 1 (no penalty).

    Returns
    -------
    float
        In [0, 1]; NaN where there is no anomaly.

    Raises
    ------
    ValueError
        Shapes differ, a value is not 0 or 1, an option is out of range.

    References
    ----------
    N. Tatbul et al., Precision and Recall for Time Series, NeurIPS 2018, section 4.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    anomalous, flagged = labels_and_predictions(labels, predictions)
    return _reward(anomalous, flagged, alpha, bias, cardinality)


def range_precision(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    bias: Bias = "flat",
    cardinality: Cardinality = "reciprocal",
) -> float:
    """Mean over the predicted ranges of how much of each lies in true anomalies; existence earns nothing.

    Arguments, errors, source as for `range_recall`, with the parts of the two sides exchanged. NaN where
    nothing is predicted.
    """
    anomalous, flagged = labels_and_predictions(labels, predictions)
    return _reward(flagged, anomalous, 0.0, bias, cardinality)


def range_f1(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    alpha: float = 0.2,
    bias: Bias = "flat",
    cardinality: Cardinality = "reciprocal",
) -> float:
    """Harmonic mean of `range_precision` and `range_recall`.

    Arguments, errors, source as for `range_recall`; the default ``alpha`` is that of TSB-AD's R-based-F1. The
    bias holds for recall; precision is flat, because a false alarm is as bad at its front as at its back.
    0 where nothing is predicted; NaN where there is no anomaly.
    """
    recall = range_recall(labels, predictions, alpha=alpha, bias=bias, cardinality=cardinality)
    precision = range_precision(labels, predictions, cardinality=cardinality)
    return harmonic(precision, recall)


def harmonic(precision: float, recall: float) -> float:
    """F1: 0 where precision is undefined because nothing is predicted, NaN where recall is undefined."""
    if np.isnan(recall):
        return float("nan")
    if np.isnan(precision) or precision + recall == 0.0:
        return 0.0
    return float(2.0 * precision * recall / (precision + recall))


def _reward(of: Flags, by: Flags, alpha: float, bias: Bias, cardinality: Cardinality) -> float:
    """Mean reward of the ranges ``of`` for being covered by the ranges ``by``."""
    if bias not in ("flat", "front", "middle", "back"):
        raise ValueError(f"bias must be 'flat', 'front', 'middle' or 'back', got {bias!r}")
    if cardinality not in ("reciprocal", "one"):
        raise ValueError(f"cardinality must be 'reciprocal' or 'one', got {cardinality!r}")
    first, stop = spans(of)
    if len(first) == 0:
        return float("nan")
    # Ranges of one side are apart from each other, so each shared run belongs to one pair of ranges.
    begin, end = spans(of & by)
    owner = np.searchsorted(first, begin, side="right") - 1
    length = stop - first
    covered = _weight(end - first[owner], length[owner], bias) - _weight(
        begin - first[owner], length[owner], bias
    )
    overlap = np.bincount(owner, weights=covered, minlength=len(first)) / _weight(length, length, bias)
    if cardinality == "reciprocal":
        overlap /= np.maximum(np.bincount(owner, minlength=len(first)), 1)
    existence = touched(first, stop, by)
    return float(np.mean(alpha * existence + (1.0 - alpha) * overlap))


def _weight(steps: Positions, length: Positions, bias: Bias) -> Floats:
    """Weight of the first ``steps`` of ranges of ``length`` steps: the sum of the paper's δ over them."""
    i, n = steps.astype(np.float64), length.astype(np.float64)
    if bias == "flat":
        return i
    rising: NDArray[np.float64] = i * (i + 1.0) / 2.0
    if bias == "back":
        return rising
    falling: NDArray[np.float64] = i * (n + 1.0) - rising
    if bias == "front":
        return falling
    # Rising up to the middle, the same weights falling after it.
    half = np.floor(n / 2.0)
    after = falling - (half * (n + 1.0) - half * (half + 1.0) / 2.0)
    return np.where(i <= half, rising, half * (half + 1.0) / 2.0 + after)
