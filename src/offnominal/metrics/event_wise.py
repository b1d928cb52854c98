"""Measures that count anomalies of a series as whole events: found or missed, and how late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offnominal.metrics.counts import Floats
from offnominal.metrics.range_based import harmonic
from offnominal.metrics.spans import Flags, labels_and_predictions, spans, touched


@dataclass(frozen=True)
class DetectionDelay:
    """How late the anomalies of a series were flagged.

    Attributes
    ----------
    delays : ndarray of float64, shape (events,)
        Steps from the first step of each anomaly to its first flagged step, at least 0; NaN where it was
        missed.
    events, found : int
        Number of anomalies, and of those flagged at some step of theirs.
    mean, median : float
        Over those found; NaN where there are none. Read them beside ``found``: missing the slow ones helps
        them.
    """

    delays: Floats
    events: int
    found: int
    mean: float
    median: float


def event_f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """F1 of events: a true run of anomalous steps is found, a predicted run is right, if they share a step.

    Parameters
    ----------
    labels, predictions : array_like, shape (n,)
        0 normal, 1 anomalous, in the order of time.

    Returns
    -------
    float
        In [0, 1]; 0 where nothing is predicted; NaN where there is no anomaly.

    Raises
    ------
    ValueError
        Shapes differ, a value is not 0 or 1.

    Notes
    -----
    One prediction as long as the series reaches 1: where long predictions are possible, look at
    `composite_f1` as well.

    References
    ----------
    K. Hundman et al., Detecting Spacecraft Anomalies Using LSTMs and Nonparametric Dynamic Thresholding,
    KDD 2018, section 4.2.
    """
    anomalous, flagged = labels_and_predictions(labels, predictions)
    recall = _share(touched(*spans(anomalous), flagged))
    precision = _share(touched(*spans(flagged), anomalous))
    return harmonic(precision, recall)


def composite_f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """F1 of recall counted in events and precision counted in steps; long false alarms cost their length.

    Arguments, errors, range as for `event_f1`. Equals TSB-AD's Event-based-F1 on the same predictions.

    Notes
    -----
    One right step in every anomaly reaches 1, so the best threshold on few long anomalies says little.

    References
    ----------
    A. Garg et al., An Evaluation of Anomaly Detection and Diagnosis in Multivariate Time Series, IEEE TNNLS
    33 (2022), the composite F-score.
    """
    anomalous, flagged = labels_and_predictions(labels, predictions)
    recall = _share(touched(*spans(anomalous), flagged))
    calls = np.count_nonzero(flagged)
    precision = np.count_nonzero(anomalous & flagged) / calls if calls else float("nan")
    return harmonic(precision, recall)


def detection_delay(labels: ArrayLike, predictions: ArrayLike) -> DetectionDelay:
    """Steps between the start of each anomaly and its first flagged step.

    Arguments, errors as for `event_f1`.

    Returns
    -------
    DetectionDelay
    """
    anomalous, flagged = labels_and_predictions(labels, predictions)
    first, stop = spans(anomalous)
    calls = np.append(np.flatnonzero(flagged), len(flagged))
    earliest = calls[np.searchsorted(calls[:-1], first)]
    delays = np.where(earliest < stop, earliest - first, np.nan).astype(np.float64)
    seen = delays[~np.isnan(delays)]
    mean, median = (float(np.mean(seen)), float(np.median(seen))) if len(seen) else (np.nan, np.nan)
    return DetectionDelay(delays, len(first), len(seen), mean, median)


def _share(hits: Flags) -> float:
    return float(np.mean(hits)) if len(hits) else float("nan")
