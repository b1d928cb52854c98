"""Whether p-values and false-alarm rates keep what they promise."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, sqrt

import numpy as np
from numpy.typing import ArrayLike

from offnominal.metrics.checks import finite, labels_and_scores


@dataclass(frozen=True)
class Uniformity:
    """How the p-values of normal items compare with the uniform distribution.

    Attributes
    ----------
    n : int
        Number of p-values.
    ks : float
        Greatest distance between their distribution F and the uniform one, either way; in [0, 1].
    excess : float
        sup(F(p) − p), at least 0: by how much small p-values are too frequent. Super-uniform (safe) p-values
        have an excess near 0, whatever their ``ks``.
    p_value : float
        Chance of an excess at least this large from n independent uniform p-values. Conformal p-values that
        share a calibration set depend on each other and spread more: pool over many splits, or read it as a
        lower bound.
    """

    n: int
    ks: float
    excess: float
    p_value: float


def p_value_uniformity(p_values: ArrayLike) -> Uniformity:
    """Compare p-values of normal items with the uniform distribution.

    Parameters
    ----------
    p_values : array_like, shape (n,)
        In [0, 1].

    Returns
    -------
    Uniformity
        NaN measures where there is no p-value.

    Raises
    ------
    ValueError
        Not one-dimensional, or a value outside [0, 1] or NaN.

    References
    ----------
    Z. W. Birnbaum and F. H. Tingey, One-sided confidence contours for probability distribution functions,
    Annals of Mathematical Statistics 22 (1951), for the exact distribution of the excess.
    """
    values = np.sort(finite(p_values, "p-values").astype(np.float64))
    if values.ndim != 1:
        raise ValueError(f"p-values must be one-dimensional, got shape {values.shape}")
    n = len(values)
    if n == 0:
        return Uniformity(0, float("nan"), float("nan"), float("nan"))
    if values[0] < 0 or values[-1] > 1:
        raise ValueError("p-values must lie in [0, 1]")
    rank = np.arange(1, n + 1)
    excess = max(float(np.max(rank / n - values)), 0.0)
    deficit = max(float(np.max(values - (rank - 1) / n)), 0.0)
    return Uniformity(n, max(excess, deficit), excess, _chance_of_excess(n, excess))


def realised_false_alarm_rate(labels: ArrayLike, verdicts: ArrayLike) -> float:
    """Share of the normal items with a verdict that were called anomalous.

    Parameters
    ----------
    labels : array_like, shape (n,)
        0 normal, 1 anomalous.
    verdicts : array_like, shape (n,)
        1 anomalous, 0 normal, −1 no verdict (left out).

    Returns
    -------
    float
        In [0, 1]; NaN where no normal item has a verdict.

    Raises
    ------
    ValueError
        Shapes differ, or a value is none of these.
    """
    anomalous, given = labels_and_scores(labels, verdicts)
    if not np.isin(given, (-1, 0, 1)).all():
        raise ValueError("verdicts must be 1 (anomalous), 0 (normal) or -1 (none)")
    judged = given[~anomalous & (given >= 0)]
    return float(np.mean(judged)) if len(judged) else float("nan")


def false_alarm_spread(n: int, m: int, rate: float) -> tuple[float, float]:
    """Mean and standard deviation to expect of the false-alarm rate of a conformal decision.

    With n calibration and m test scores, all exchangeable and without ties, the number of false alarms at
    p ≤ ``rate`` is beta-binomial: m draws at a rate from Beta(k, n + 1 − k), k = ⌊rate · (n + 1)⌋.

    Parameters
    ----------
    n : int
        Calibration scores, at least 1.
    m : int
        Normal test scores, at least 1.
    rate : float
        False-alarm rate asked for, in [0, 1].

    Returns
    -------
    mean, std : float
        Of the realised rate. The mean is at most ``rate``; both are 0 where n is too small for the rate.

    Raises
    ------
    ValueError
        An argument is outside its range.

    References
    ----------
    V. Vovk, Conditional validity of inductive conformal predictors, Machine Learning 92 (2013).
    """
    if n < 1 or m < 1 or not 0.0 <= rate <= 1.0:
        raise ValueError(f"n and m must be at least 1 and rate in [0, 1], got {n}, {m}, {rate}")
    total = n + 1
    # A product such as 0.29 · 100 rounds to 28.999…: a hair is added before the floor.
    k = floor(rate * total * (1.0 + 1e-12) + 1e-12)
    mean = k / total
    variance = mean * (1.0 - mean) * (total + m) / (m * (total + 1.0))
    return mean, sqrt(variance)


def _chance_of_excess(n: int, excess: float) -> float:
    """Exact chance that n independent uniform values have sup(F(p) − p) of at least ``excess``."""
    if excess <= 0.0:
        return 1.0
    if excess >= 1.0:
        return 0.0
    j = np.arange(0, floor(n * (1.0 - excess)) + 1)
    rest = 1.0 - excess - j / n
    j, rest = j[rest > 0.0], rest[rest > 0.0]
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))
    terms = (
        log_factorial[n]
        - log_factorial[j]
        - log_factorial[n - j]
        + (j - 1) * np.log(excess + j / n)
        + (n - j) * np.log(rest)
    )
    largest = float(terms.max())
    log_chance = np.log(excess) + largest + np.log(np.sum(np.exp(terms - largest)))
    return float(min(1.0, np.exp(log_chance)))
