"""Point-adjusted F1: offered because published tables use it, never to judge a detector by."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from offnominal.metrics.areas import best_f1
from offnominal.metrics.checks import labels_and_scores
from offnominal.metrics.counts import count_items
from offnominal.metrics.spans import labels_and_predictions, spans, touched


def point_adjusted_f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """F1 of steps after every anomaly with one flagged step has been counted as found at all its steps.

    .. warning::
       **Do not judge a detector by this.** One lucky step buys a whole anomaly, so random scores come close
       to 1 where anomalies are long, ahead of published methods. Use `vus_pr` or `range_f1`.

    Parameters
    ----------
    labels, predictions : array_like, shape (n,)
        0 normal, 1 anomalous, in the order of time.

    Returns
    -------
    float
        In [0, 1]; NaN where there is no anomaly.

    Raises
    ------
    ValueError
        Shapes differ, a value is not 0 or 1.

    References
    ----------
    H. Xu et al., Unsupervised Anomaly Detection via Variational Auto-Encoder for Seasonal KPIs in Web
    Applications, WWW 2018 (the adjustment); S. Kim et al., Towards a Rigorous Evaluation of Time-Series
    Anomaly Detection, AAAI 2022 (why it misleads).
    """
    anomalous, flagged = labels_and_predictions(labels, predictions)
    if not anomalous.any():
        return float("nan")
    first, stop = spans(anomalous)
    found = int((stop - first)[touched(first, stop, flagged)].sum())
    false = np.count_nonzero(flagged & ~anomalous)
    return float(2.0 * found / (found + false + np.count_nonzero(anomalous)))


def point_adjusted_f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """Greatest point-adjusted F1 over all thresholds.

    .. warning::
       **Do not judge a detector by this**: see `point_adjusted_f1`.

    Parameters
    ----------
    labels : array_like, shape (n,)
        0 normal, 1 anomalous, in the order of time.
    scores : array_like, shape (n,)
        Finite, any scale, higher = more anomalous.

    Returns
    -------
    float
        In [0, 1]; NaN where there is no anomaly.

    Raises
    ------
    ValueError
        Shapes differ, a label is not 0 or 1, a score is not finite.
    """
    anomalous, ranked = labels_and_scores(labels, scores)
    if not anomalous.any():
        return float("nan")
    first, stop = spans(anomalous)
    length = stop - first
    # Adjusting the calls is scoring every step of an anomaly as its highest one.
    highest = np.maximum.reduceat(ranked[anomalous], np.cumsum(length) - length)
    adjusted = ranked.copy()
    adjusted[anomalous] = np.repeat(highest, length)
    return best_f1(count_items(anomalous, adjusted))[0]
