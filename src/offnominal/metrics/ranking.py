"""How well scores rank anomalous items above normal ones: exact, ties included."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offnominal.metrics import areas
from offnominal.metrics.checks import labels_and_scores, share
from offnominal.metrics.counts import Floats, ThresholdCounts, count_items


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that an anomaly scores above a normal item, ties counted half.

    Parameters
    ----------
    labels : array_like, shape (n,)
        0 normal, 1 anomalous.
    scores : array_like, shape (n,)
        Finite, any scale, higher = more anomalous.

    Returns
    -------
    float
        In [0, 1]; NaN where one of the two classes is absent.

    Raises
    ------
    ValueError
        Shapes differ, a label is not 0 or 1, a score is not finite.
    """
    return areas.roc_area(_counts(labels, scores))


def partial_auroc(
    labels: ArrayLike, scores: ArrayLike, max_fpr: float = 0.1, *, standardised: bool = True
) -> float:
    """Area under the ROC curve up to a false-positive rate.

    Parameters
    ----------
    labels, scores
        As for `auroc`.
    max_fpr : float, default 0.1
        Greatest false-positive rate looked at, in (0, 1].
    standardised : bool, default True
        McClish's form: 0.5 for scores that tell nothing, 1 for a perfect ranking. False: the area divided by
        ``max_fpr``, 1 for a perfect ranking.

    Returns
    -------
    float
        NaN where one of the two classes is absent.

    Raises
    ------
    ValueError
        As `auroc`; ``max_fpr`` outside (0, 1].

    References
    ----------
    D. K. McClish, Analyzing a portion of the ROC curve, Medical Decision Making 9 (1989).
    """
    limit = share(max_fpr, "max_fpr")
    area = areas.area_to(*areas.roc_points(_counts(labels, scores)), limit)
    if not standardised:
        return area / limit
    if limit == 1.0:
        return area
    least = 0.5 * limit * limit
    return 0.5 * (1.0 + (area - least) / (limit - least))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision: precision at each threshold weighted by the recall it adds, without interpolation.

    Arguments, errors as for `auroc`. NaN where there is no anomaly; 1 where there are only anomalies.
    """
    return areas.precision_area(_counts(labels, scores))


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """Greatest F1 (harmonic mean of precision and recall) over all thresholds.

    Arguments, errors as for `auroc`. NaN where there is no anomaly.
    """
    return areas.best_f1(_counts(labels, scores))[0]


def best_f1_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Score at or above which items are called anomalous when F1 is greatest; the highest such score.

    Arguments, errors as for `auroc`. NaN where there is no anomaly.
    """
    return areas.best_f1(_counts(labels, scores))[1]


def fpr_at_tpr(labels: ArrayLike, scores: ArrayLike, tpr: float = 0.95) -> float:
    """Least false-positive rate among the thresholds that find at least the share ``tpr`` of the anomalies.

    Parameters
    ----------
    labels, scores
        As for `auroc`.
    tpr : float, default 0.95
        True-positive rate asked for, in (0, 1]. Only thresholds that occur are used: no interpolation.

    Returns
    -------
    float
        NaN where one of the two classes is absent.

    Raises
    ------
    ValueError
        As `auroc`; ``tpr`` outside (0, 1].
    """
    asked = share(tpr, "tpr")
    counts = _counts(labels, scores)
    if not counts.two_classes:
        return float("nan")
    # Compared in whole anomalies: 19 of 20 is 0.95, whatever the division rounds to.
    needed = np.ceil(asked * counts.anomalies - 1e-9)
    at = int(np.searchsorted(np.cumsum(counts.anomalous), needed))
    return float(np.cumsum(counts.normal)[at] / counts.normals)


def fpr95(labels: ArrayLike, scores: ArrayLike) -> float:
    """False-positive rate at 95 % true positives: `fpr_at_tpr` with its default."""
    return fpr_at_tpr(labels, scores, 0.95)


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, NDArray[np.floating]]:
    """Points of the ROC curve, one for every distinct score.

    Arguments, errors as for `auroc`.

    Returns
    -------
    fpr, tpr : ndarray, shape (k + 1,)
        Rising from (0, 0) to (1, 1); all NaN for an absent class.
    thresholds : ndarray, shape (k + 1,)
        Falling, the first +inf; items scoring at or above it are called anomalous.
    """
    counts = _counts(labels, scores)
    fpr, tpr = areas.roc_points(counts)
    return fpr, tpr, np.append(np.asarray([np.inf], counts.thresholds.dtype), counts.thresholds)


def precision_recall_curve(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[Floats, Floats, NDArray[np.floating]]:
    """Precision and recall at every distinct score, from the lowest threshold to the highest.

    Arguments, errors as for `auroc`.

    Returns
    -------
    precision, recall : ndarray, shape (k + 1,)
        The last point is (1, 0), which has no threshold. Recall is NaN where there is no anomaly.
    thresholds : ndarray, shape (k,)
        Rising; items scoring at or above it are called anomalous.
    """
    counts = _counts(labels, scores)
    found = np.cumsum(counts.anomalous)
    precision = found / (found + np.cumsum(counts.normal))
    recall = found / counts.anomalies if counts.anomalies else np.full_like(found, np.nan)
    return np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), counts.thresholds[::-1].copy()


def _counts(labels: ArrayLike, scores: ArrayLike) -> ThresholdCounts:
    return count_items(*labels_and_scores(labels, scores))
