"""Measures of the items a detector puts on top: precision at n, F1 at a contamination."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from offnominal.metrics.checks import labels_and_scores, share


def precision_at_n(
    labels: ArrayLike, scores: ArrayLike, n: int | None = None, *, adjusted: bool = False
) -> float:
    """Share of anomalies among the n highest scores; items tied at the cut count by their chance of being in.

    Parameters
    ----------
    labels : array_like, shape (items,)
        0 normal, 1 anomalous.
    scores : array_like, shape (items,)
        Finite, any scale, higher = more anomalous.
    n : int or None
        In [1, items]; None: the number of anomalies, as in PyOD's and ADBench's tables (there it is recall
        and F1 too).
    adjusted : bool, default False
        Corrected for chance: 0 for random scores, 1 for the best value that n allows, negative below chance.

    Returns
    -------
    float
        NaN where there is no anomaly; adjusted also where there are only anomalies.

    Raises
    ------
    ValueError
        Shapes differ, a label is not 0 or 1, a score is not finite, n is out of range.

    References
    ----------
    G. O. Campos et al., On the evaluation of unsupervised outlier detection, Data Mining and Knowledge
    Discovery 30 (2016), section 3.
    """
    anomalous, ranked = labels_and_scores(labels, scores)
    items, anomalies = len(ranked), int(np.count_nonzero(anomalous))
    if n is not None and not 1 <= n <= items:
        raise ValueError(f"n must be between 1 and the number of items, {items}, got {n}")
    if anomalies == 0:
        return float("nan")
    top = anomalies if n is None else int(n)
    cut = np.partition(ranked, items - top)[items - top]
    above, tied = ranked > cut, ranked == cut
    chance = (top - np.count_nonzero(above)) / np.count_nonzero(tied)
    found = np.count_nonzero(anomalous & above) + chance * np.count_nonzero(anomalous & tied)
    precision = float(found / top)
    if not adjusted:
        return precision
    expected, best = anomalies / items, min(1.0, anomalies / top)
    return (precision - expected) / (best - expected) if best > expected else float("nan")


def f1_at_contamination(labels: ArrayLike, scores: ArrayLike, contamination: float | None = None) -> float:
    """F1 of calling anomalous what scores above the (1 − contamination) quantile of the same scores.

    Parameters
    ----------
    labels, scores
        As for `precision_at_n`.
    contamination : float or None
        Share to flag, in (0, 1]; None: the true share of anomalies. The quantile is interpolated, and scores
        equal to it are not flagged, as PyOD's detectors label.

    Returns
    -------
    float
        In [0, 1]; NaN where there is no anomaly.

    Raises
    ------
    ValueError
        As `precision_at_n`; ``contamination`` out of range.
    """
    anomalous, ranked = labels_and_scores(labels, scores)
    flagged_share = None if contamination is None else share(contamination, "contamination")
    anomalies = int(np.count_nonzero(anomalous))
    if anomalies == 0:
        return float("nan")
    asked = anomalies / len(ranked) if flagged_share is None else flagged_share
    flagged = ranked > np.quantile(ranked, 1.0 - asked)
    found = np.count_nonzero(flagged & anomalous)
    return float(2.0 * found / (np.count_nonzero(flagged) + anomalies))
