"""Volume under the surface: ROC and precision-recall curves of a series whose labels fade at their edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offnominal.metrics.checks import labels_and_scores
from offnominal.metrics.counts import Floats
from offnominal.metrics.regions import Positions, spread
from offnominal.metrics.spans import Flags, spans


@dataclass(frozen=True)
class RangeSurface:
    """ROC and precision-recall curves of one series, a row for every buffer length.

    Attributes
    ----------
    buffers : ndarray of int, shape (b,)
        Buffer lengths ℓ, in steps: labels fade over ℓ // 2 steps on each side of an anomaly.
    thresholds : ndarray, shape (k,)
        Falling, may repeat; steps scoring at or above one are called anomalous.
    fpr, tpr, precision : ndarray of float64, shape (b, k)
        At each buffer and threshold. All NaN where they are not defined.
    """

    buffers: NDArray[np.intp]
    thresholds: NDArray[np.floating]
    fpr: Floats
    tpr: Floats
    precision: Floats

    @property
    def roc_areas(self) -> Floats:
        """Area under each row's ROC curve, from (0, 0) to (1, 1), straight between points; shape (b,)."""
        rows = len(self.buffers)
        x = np.column_stack((np.zeros(rows), self.fpr, np.ones(rows)))
        y = np.column_stack((np.zeros(rows), self.tpr, np.ones(rows)))
        area: Floats = np.sum(np.diff(x, axis=1) * (y[:, 1:] + y[:, :-1]), axis=1) / 2.0
        return area

    @property
    def precision_areas(self) -> Floats:
        """Precision weighted by the recall that each threshold adds, without interpolation; shape (b,)."""
        area: Floats = np.sum(np.diff(self.tpr, axis=1, prepend=0.0) * self.precision, axis=1)
        return area


def range_surface(
    labels: ArrayLike, scores: ArrayLike, window: int = 100, thresholds: int = 250
) -> RangeSurface:
    """Curves at every buffer length 0, 1, …, ``window``: what `vus_roc` and `vus_pr` average over.

    Arguments, errors as for `vus_roc`.
    """
    anomalous, ranked = labels_and_scores(labels, scores)
    return _surface(anomalous, ranked, *_asked(window, thresholds), every=True)


def vus_roc(labels: ArrayLike, scores: ArrayLike, window: int = 100, thresholds: int = 250) -> float:
    """Volume under the ROC surface: the range-ROC area averaged over the buffer lengths 0, 1, …, ``window``.

    Parameters
    ----------
    labels : array_like, shape (n,)
        0 normal, 1 anomalous, in the order of time.
    scores : array_like, shape (n,)
        Finite, any scale, higher = more anomalous.
    window : int, default 100
        Greatest buffer length in steps, at least 0; often the period of the series.
    thresholds : int, default 250
        Number of thresholds, at least 1: the scores at so many evenly spaced ranks, highest to lowest.

    Returns
    -------
    float
        In [0, 1]; NaN where one of the two classes is absent.

    Raises
    ------
    ValueError
        Shapes differ, a label is not 0 or 1, a score is not finite, ``window`` or ``thresholds`` too small.

    Notes
    -----
    With buffer ℓ, a step at distance d ≤ ℓ / 2 from an anomaly counts √(1 − d / ℓ) anomalous, sums of several
    buffers at most 1. The positives P are the mean of those labelled and those labelled or, in a buffer,
    called; the true-positive rate is the share of P found times the share of anomalies touched, where
    anomalies whose buffers meet are one. Values equal those of TSB-AD. Where buffers fill the gaps between
    anomalies, random scores do well: keep ``window`` below those gaps. Cost: one sort of the scores, then a
    pass over the anomalous steps and their surroundings.

    References
    ----------
    J. Paparrizos et al., Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series Anomaly
    Detection, PVLDB 15 (2022), sections 4 and 5.
    """
    return float(np.mean(range_surface(labels, scores, window, thresholds).roc_areas))


def vus_pr(labels: ArrayLike, scores: ArrayLike, window: int = 100, thresholds: int = 250) -> float:
    """Volume under the precision-recall surface: the range-PR area averaged over the buffer lengths.

    Arguments, errors, source as for `vus_roc`. NaN where there is no anomaly; 1 where there are only
    anomalies.
    """
    return float(np.mean(range_surface(labels, scores, window, thresholds).precision_areas))


def range_auc_roc(labels: ArrayLike, scores: ArrayLike, window: int = 100, thresholds: int = 250) -> float:
    """Range-ROC area at the one buffer length ``window``: a slice of the surface of `vus_roc`.

    Arguments, errors, source as for `vus_roc`. NaN where one of the two classes is absent.
    """
    anomalous, ranked = labels_and_scores(labels, scores)
    return float(_surface(anomalous, ranked, *_asked(window, thresholds), every=False).roc_areas[0])


def range_auc_pr(labels: ArrayLike, scores: ArrayLike, window: int = 100, thresholds: int = 250) -> float:
    """Range-PR area at the one buffer length ``window``: a slice of the surface of `vus_pr`.

    Arguments, errors, source as for `vus_roc`. NaN where there is no anomaly.
    """
    anomalous, ranked = labels_and_scores(labels, scores)
    return float(_surface(anomalous, ranked, *_asked(window, thresholds), every=False).precision_areas[0])


def _asked(window: int, thresholds: int) -> tuple[int, int]:
    if window < 0 or thresholds < 1:
        raise ValueError(
            f"window must be at least 0 and thresholds at least 1, got {window} and {thresholds}"
        )
    return int(window), int(thresholds)


def _surface(
    anomalous: Flags, scores: NDArray[np.floating], window: int, thresholds: int, *, every: bool
) -> RangeSurface:
    buffers = np.arange(window + 1) if every else np.asarray([window])
    n, anomalies = len(scores), int(np.count_nonzero(anomalous))
    if anomalies == 0:
        empty = np.full((len(buffers), thresholds), np.nan)
        return RangeSurface(buffers, np.full(thresholds, np.nan), empty, empty, empty)
    levels, called = _levels(scores, thresholds)
    inside = np.flatnonzero(anomalous)
    found = np.cumsum(_histogram(_steps(levels, scores[inside]), thresholds))
    first, stop = spans(anomalous)
    near = _faded(first, stop, scores, levels, buffers)
    touched = _touched(first, stop, scores, levels, buffers)

    true = found + near
    positives = anomalies + near / 2.0
    tpr = np.minimum(true / positives, 1.0) * touched
    negatives = n - positives
    # Without a normal step there is no false-positive rate.
    fpr = (called - true) / np.where(negatives > 0, negatives, np.nan)
    return RangeSurface(buffers, levels, fpr, tpr, true / called)


def _levels(scores: NDArray[np.floating], thresholds: int) -> tuple[NDArray[np.floating], Floats]:
    """Falling thresholds at evenly spaced ranks, and how many steps score at or above each."""
    n = len(scores)
    ranks = np.linspace(0, n - 1, thresholds).astype(np.intp)
    rising = np.sort(scores)
    levels = rising[n - 1 - ranks]
    return levels, (n - np.searchsorted(rising, levels, side="left")).astype(np.float64)


def _steps(levels: NDArray[np.floating], scores: NDArray[np.floating]) -> Positions:
    """Index of the first threshold at which each score is called; ``len(levels)`` if at none."""
    return len(levels) - np.searchsorted(levels[::-1], scores, side="right")


def _histogram(steps: Positions, thresholds: int) -> Floats:
    return np.bincount(steps, minlength=thresholds + 1)[:thresholds].astype(np.float64)


def _faded(
    first: Positions,
    stop: Positions,
    scores: NDArray[np.floating],
    levels: NDArray[np.floating],
    buffers: NDArray[np.intp],
) -> Floats:
    """Sum of the faded labels of the called steps around the anomalies; shape (buffers, thresholds).

    A buffer never falls below √½, so a step in two of them has reached 1: of all distances from a step to
    anomalies, only the two smallest matter. The steps are counted by distance and threshold, and a product
    with the fading weights gives all thresholds of a buffer at once.
    """
    reach, columns = int(buffers[-1]) // 2, len(levels) + 1
    at, nearest, second = _distances(first, stop, len(scores), reach)
    cell = nearest * columns + _steps(levels, scores[at])
    del at, nearest
    alone = np.bincount(cell, minlength=(reach + 1) * columns).astype(np.float64).reshape(-1, columns)
    twice = np.flatnonzero(second <= reach)
    twice = twice[np.argsort(second[twice], kind="stable")]
    upto = np.searchsorted(second[twice], np.arange(reach + 2))
    cell = cell[twice]
    both = np.zeros(columns)
    sums = np.zeros((len(buffers), columns))
    done = 0
    for half in np.unique(buffers // 2):
        # From here on these steps lie in two buffers.
        moved = cell[done : upto[half + 1]]
        done = upto[half + 1]
        if len(moved):
            alone -= np.bincount(moved, minlength=alone.size).reshape(alone.shape)
            both += np.bincount(moved % columns, minlength=columns)
        rows = np.flatnonzero(buffers // 2 == half)
        lengths = np.maximum(buffers[rows], 1)[:, None]
        weights = np.sqrt(1.0 - np.arange(1, half + 1) / lengths)
        sums[rows] = weights @ alone[1 : half + 1] + both
    return np.cumsum(sums[:, :-1], axis=1)


def _distances(
    first: Positions, stop: Positions, n: int, reach: int
) -> tuple[Positions, Positions, Positions]:
    """Normal steps within ``reach`` of an anomaly, and their distances to the nearest two anomalies."""
    # Gap g lies before anomaly g; what is within reach of its two ends, or all of it.
    opens, closes = np.append(0, stop), np.append(first, n)
    left = np.minimum(closes - opens, reach)
    left[0] = 0
    right = np.minimum(closes - opens - left, reach)
    right[-1] = 0
    length = np.ravel(np.column_stack((left, right)))
    at = spread(np.ravel(np.column_stack((opens, closes - right))), length)
    gap = np.repeat(np.arange(2 * len(opens)) // 2, length)
    far = n + reach + 1
    ends = np.concatenate(([-far, -far], stop - 1))
    starts = np.concatenate((first, [n + far, n + far]))
    before, after = at - ends[gap + 1], starts[gap] - at
    nearest = np.minimum(before, after)
    second = np.maximum(before, after)
    np.minimum(second, at - ends[gap], out=second)
    np.minimum(second, starts[gap + 1] - at, out=second)
    return at, nearest, second


def _touched(
    first: Positions,
    stop: Positions,
    scores: NDArray[np.floating],
    levels: NDArray[np.floating],
    buffers: NDArray[np.intp],
) -> Floats:
    """Share of the anomalies with a called step in them or their buffers; shape (buffers, thresholds)."""
    n, thresholds = len(scores), len(levels)
    edges = np.append(np.ravel(np.column_stack((first, stop))), n)
    # A trailing edge equal to n is refused by reduceat; the last anomaly then runs to the end anyway.
    highest = np.maximum.reduceat(scores, edges[edges < n])[::2]
    start, last = first, stop - 1
    shares = np.empty((len(buffers), thresholds))
    row = 0
    for half in range(int(buffers[-1]) // 2 + 1):
        if half:
            # Anomalies grow by a step on both sides, then those whose buffers meet become one.
            highest = np.maximum(highest, scores[np.maximum(start - half, 0)])
            highest = np.maximum(highest, scores[np.minimum(last + half, n - 1)])
            apart = start[1:] - last[:-1] > 2 * half
            if not apart.all():
                heads = np.append(0, np.flatnonzero(apart) + 1)
                highest = np.maximum.reduceat(highest, heads)
                start = start[heads]
                last = last[np.append(heads[1:] - 1, len(last) - 1)]
        while row < len(buffers) and buffers[row] // 2 == half:
            if row and buffers[row - 1] // 2 == half:
                shares[row] = shares[row - 1]
            else:
                reached = _histogram(_steps(levels, highest), thresholds)
                shares[row] = np.cumsum(reached) / len(highest)
            row += 1
    return shares
