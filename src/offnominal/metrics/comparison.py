"""Whether one detector is better than another on the same items, beyond chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from offnominal.metrics.checks import labels_and_scores
from offnominal.metrics.ranking import auroc

Measure = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Difference:
    """A measure of detector a less that of detector b, with the bounds of its bootstrap distribution.

    Attributes
    ----------
    difference : float
        On the items as they are; NaN where the measure is not defined.
    lower, upper : float
        Two-sided bounds at ``confidence`` (``lower`` alone is a one-sided bound at (1 + confidence) / 2).
    confidence : float
        In (0, 1).
    resamples : int
        Number of resamples behind the bounds.
    """

    difference: float
    lower: float
    upper: float
    confidence: float
    resamples: int


def paired_bootstrap(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    measure: Measure = auroc,
    resamples: int = 1000,
    seed: int = 0,
    *,
    confidence: float = 0.95,
) -> Difference:
    """Bootstrap the difference of a measure between two detectors over the items both scored.

    Items are drawn with replacement, the same for both detectors, normals and anomalies apart so that every
    resample has as many of each as the data (percentile bounds).

    Parameters
    ----------
    labels : array_like, shape (n,)
        0 normal, 1 anomalous.
    scores_a, scores_b : array_like, shape (n,)
        Finite, higher = more anomalous; each on its own scale.
    measure : callable, default `auroc`
        ``measure(labels, scores) -> float``.
    resamples : int, default 1000
        At least 1.
    seed : int, default 0
        The same seed gives the same bounds.
    confidence : float, default 0.95
        In (0, 1).

    Returns
    -------
    Difference

    Raises
    ------
    ValueError
        As `auroc`, for either detector; ``resamples`` or ``confidence`` out of range.

    References
    ----------
    B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if resamples < 1 or not 0.0 < confidence < 1.0:
        raise ValueError(
            f"resamples must be at least 1 and confidence in (0, 1), got {resamples}, {confidence}"
        )
    anomalous, first = labels_and_scores(labels, scores_a)
    _, second = labels_and_scores(labels, scores_b)
    truth = anomalous.astype(np.int8)
    observed = measure(truth, first) - measure(truth, second)
    if np.isnan(observed):
        return Difference(float("nan"), float("nan"), float("nan"), confidence, resamples)
    generator = np.random.default_rng(seed)
    classes = [at for at in (np.flatnonzero(~anomalous), np.flatnonzero(anomalous)) if len(at)]
    drawn_truth = np.concatenate([truth[at] for at in classes])
    differences = np.empty(resamples)
    for i in range(resamples):
        drawn = np.concatenate([at[generator.integers(0, len(at), len(at))] for at in classes])
        differences[i] = measure(drawn_truth, first[drawn]) - measure(drawn_truth, second[drawn])
    tail = (1.0 - confidence) / 2.0
    lower, upper = np.quantile(differences, [tail, 1.0 - tail])
    return Difference(float(observed), float(lower), float(upper), confidence, resamples)
