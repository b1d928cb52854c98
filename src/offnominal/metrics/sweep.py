"""The best value of a measure of predictions over thresholds on the scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from offnominal.metrics.checks import labels_and_scores


def best_over_thresholds(
    measure: Callable[[Any, Any], float], labels: ArrayLike, scores: ArrayLike, thresholds: int = 100
) -> tuple[float, float]:
    """Greatest value of ``measure(labels, predictions)`` over evenly spaced thresholds, and the threshold.

    The oracle's choice, as benchmarks of series report it: an upper bound, not what a detector in use
    attains.

    Parameters
    ----------
    measure : callable
        Such as `range_f1`, `composite_f1`, `affiliation_f1`, `nab_score`; higher = better.
    labels : array_like, shape (n,)
        0 normal, 1 anomalous.
    scores : array_like, shape (n,)
        Finite, higher = more anomalous.
    thresholds : int, default 100
        At least 1; from the lowest score to the highest. Steps scoring **above** one are called anomalous, so
        at the last nothing is.

    Returns
    -------
    value, threshold : float
        The lowest threshold that attains the value; both NaN where the measure never is defined.

    Raises
    ------
    ValueError
        Shapes differ, a label is not 0 or 1, a score is not finite, ``thresholds`` below 1.
    """
    if thresholds < 1:
        raise ValueError(f"thresholds must be at least 1, got {thresholds}")
    anomalous, ranked = labels_and_scores(labels, scores)
    if len(ranked) == 0:
        return float("nan"), float("nan")
    best, at = float("nan"), float("nan")
    for threshold in np.linspace(ranked.min(), ranked.max(), thresholds):
        value = measure(anomalous, ranked > threshold)
        if value > best or (np.isnan(best) and not np.isnan(value)):
            best, at = float(value), float(threshold)
    return best, at
