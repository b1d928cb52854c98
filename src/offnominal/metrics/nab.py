"""The score of the Numenta Anomaly Benchmark: early detections earn more, false alarms and misses cost."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from offnominal.metrics.counts import Floats
from offnominal.metrics.spans import labels_and_predictions, spans, touched

Profile = Literal["standard", "low_fp", "low_fn"]

# Cost of a false alarm far from any window, and of a missed window; a detection earns at most 1.
COSTS: dict[Profile, tuple[float, float]] = {
    "standard": (0.11, 1.0),
    "low_fp": (0.22, 1.0),
    "low_fn": (0.11, 2.0),
}
# A false alarm this many windows behind one counts in full.
FAR = 3.0


def nab_score(labels: ArrayLike, predictions: ArrayLike, profile: Profile = "standard") -> float:
    """NAB score of one series, scaled so that predicting nothing is 0 and a perfect detector 100.

    Parameters
    ----------
    labels : array_like, shape (n,)
        0 normal, 1 inside an anomaly window, in the order of time. Every run of ones is one window.
    predictions : array_like, shape (n,)
        0 normal, 1 anomalous; every flagged step is a detection.
    profile : {"standard", "low_fp", "low_fn"}, default "standard"
        The benchmark's three applications: "low_fp" doubles the cost of false alarms, "low_fn" that of
        misses.

    Returns
    -------
    float
        At most 100, without a lower bound; NaN where there is no window.

    Raises
    ------
    ValueError
        Shapes differ, a value is not 0 or 1, the profile is unknown.

    Notes
    -----
    Only the first detection in a window counts, by a sigmoid of its place, scaled to 1 at the first step. A
    false alarm costs by a sigmoid of its distance from the end of the window before it, in window lengths; in
    full if there is no window before it. The benchmark ignores the first part of each series: cut it off
    before. The benchmark's total over several series is not the mean of this but the ratio of sums.

    References
    ----------
    A. Lavin and S. Ahmad, Evaluating Real-Time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark,
    ICMLA 2015, section III.
    """
    if profile not in COSTS:
        raise ValueError(f"profile must be one of {', '.join(COSTS)}, got {profile!r}")
    alarm, miss = COSTS[profile]
    anomalous, flagged = labels_and_predictions(labels, predictions)
    first, stop = spans(anomalous)
    if len(first) == 0:
        return float("nan")
    width = (stop - first).astype(np.float64)
    found = touched(first, stop, flagged)
    calls = np.flatnonzero(flagged)
    earliest = calls[np.searchsorted(calls, first[found])]
    earned = _sigmoid((earliest - stop[found]) / width[found]) / _sigmoid(np.asarray(-1.0))

    false = np.flatnonzero(flagged & ~anomalous)
    window = np.searchsorted(stop, false, side="right") - 1
    # Distance from the last step of the window, in steps between its first and last.
    past = (false - (stop[window] - 1)) / np.maximum(width[window] - 1.0, 1.0)
    lost = np.where((window < 0) | (past >= FAR), -1.0, _sigmoid(np.minimum(past, FAR)))

    raw = earned.sum() + alarm * lost.sum() - miss * np.count_nonzero(~found)
    nothing, perfect = -miss * len(first), float(len(first))
    return float(100.0 * (raw - nothing) / (perfect - nothing))


def _sigmoid(place: Floats) -> Floats:
    """1 long before the end of a window, 0 at its end, −1 long after it."""
    value: Floats = 2.0 / (1.0 + np.exp(5.0 * place)) - 1.0
    return value
