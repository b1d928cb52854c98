"""Comparison of several methods over several data sets by their ranks."""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, lgamma, log, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike

from offnominal.metrics.checks import finite
from offnominal.metrics.counts import Floats


@dataclass(frozen=True)
class RankComparison:
    """Friedman's test and Nemenyi's critical difference over a table of results.

    Attributes
    ----------
    mean_ranks : ndarray of float64, shape (methods,)
        1 = best on every data set.
    statistic : float
        Friedman's χ², corrected for ties; 0 where all methods are tied on every data set.
    p_value : float
        Chance of a statistic at least this large if the methods are alike (χ² approximation).
    critical_difference : float
        Mean ranks further apart than this differ at level ``alpha`` (two-sided, all pairs).
    alpha : float
        In (0, 1).
    datasets : int
        Number of rows of the table.
    """

    mean_ranks: Floats
    statistic: float
    p_value: float
    critical_difference: float
    alpha: float
    datasets: int

    def groups(self) -> list[list[int]]:
        """Largest sets of at least two methods whose mean ranks do not differ, best first."""
        order = np.argsort(self.mean_ranks, kind="stable")
        ranked = self.mean_ranks[order]
        ends = np.searchsorted(ranked, ranked + self.critical_difference, side="right")
        bars, reached = [], 0
        for start, end in enumerate(ends):
            if end > reached and end - start > 1:
                bars.append([int(method) for method in order[start:end]])
            reached = max(reached, int(end))
        return bars


def mean_rank(results: ArrayLike, *, higher_is_better: bool = True) -> Floats:
    """Mean over data sets of each method's rank, 1 = best; methods that tie share the mean of their ranks.

    Parameters
    ----------
    results : array_like, shape (datasets, methods)
        Finite; one measure of every method on every data set.
    higher_is_better : bool, default True
        False for errors and times.

    Returns
    -------
    ndarray of float64, shape (methods,)
        In [1, methods].

    Raises
    ------
    ValueError
        Not a table of at least one data set and one method, or a result is not finite.
    """
    means: Floats = np.mean(_ranks(results, higher_is_better), axis=0)
    return means


def compare_ranks(
    results: ArrayLike, alpha: float = 0.05, *, higher_is_better: bool = True
) -> RankComparison:
    """Mean ranks with Friedman's test and the critical difference of Nemenyi's test.

    Parameters
    ----------
    results, higher_is_better
        As for `mean_rank`; at least two methods.
    alpha : float, default 0.05
        In (0, 1).

    Returns
    -------
    RankComparison

    Raises
    ------
    ValueError
        As `mean_rank`; fewer than two methods; ``alpha`` out of range.

    References
    ----------
    J. Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006), section 3.2.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    ranks = _ranks(results, higher_is_better)
    datasets, methods = ranks.shape
    if methods < 2:
        raise ValueError("a comparison of ranks needs at least two methods, got 1")
    means = np.mean(ranks, axis=0)
    middle = (methods + 1) / 2.0
    # The spread of the ranks within rows: that of 1 … k, less where methods tie.
    within = float(np.sum((ranks - middle) ** 2)) / (methods - 1)
    between = datasets**2 * float(np.sum((means - middle) ** 2))
    statistic = between / within if within > 0 else 0.0
    quantile = studentised_range_quantile(1.0 - alpha, methods) / sqrt(2.0)
    difference = quantile * sqrt(methods * (methods + 1) / (6.0 * datasets))
    return RankComparison(
        means, statistic, _chi_square_tail(statistic, methods - 1), difference, alpha, datasets
    )


def studentised_range_quantile(probability: float, groups: int) -> float:
    """Quantile of the range of ``groups`` independent standard normal values.

    That is the studentised range at infinite degrees of freedom. The distribution function is its integral
    over the least value, by the trapezoidal rule, whose error on such a smooth, fading function is below
    rounding; the quantile follows by halving.

    Parameters
    ----------
    probability : float
        In (0, 1).
    groups : int
        At least 2.

    Raises
    ------
    ValueError
        An argument is out of range.

    References
    ----------
    H. O. Hartley, The Range in Random Samples, Biometrika 32 (1942).
    """
    if not 0.0 < probability < 1.0 or groups < 2:
        raise ValueError(f"probability must be in (0, 1) and groups at least 2, got {probability}, {groups}")
    least = np.linspace(-9.0, 9.0, 361)
    density = np.exp(-least * least / 2.0) / sqrt(2.0 * pi)
    above = _normal_tail(least)

    def below(width: float) -> float:
        held = above - _normal_tail(least + width)
        return float(groups * np.sum(density * held ** (groups - 1)) * (least[1] - least[0]))

    low, high = 0.0, 18.0
    while high - low > 1e-12:
        width = (low + high) / 2.0
        low, high = (width, high) if below(width) < probability else (low, width)
    return (low + high) / 2.0


def _ranks(results: ArrayLike, higher_is_better: bool) -> Floats:
    table = finite(results, "results").astype(np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"results must be a table (datasets, methods), got shape {table.shape}")
    ranks = np.empty_like(table)
    for row, values in enumerate(-table if higher_is_better else table):
        _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks[row] = (np.cumsum(counts) - (counts - 1) / 2.0)[group]
    return ranks


def _normal_tail(values: Floats) -> Floats:
    return np.asarray([erfc(value / sqrt(2.0)) / 2.0 for value in values])


def _chi_square_tail(statistic: float, degrees: int) -> float:
    """Chance that χ² with whole ``degrees`` of freedom exceeds ``statistic``: a finite sum."""
    if statistic <= 0.0:
        return 1.0
    half = statistic / 2.0
    if degrees % 2 == 0:
        tail, shape = 0.0, 1.0
    else:
        tail, shape = erfc(sqrt(half)), 1.5
    # Γ(s + 1, x) = s Γ(s, x) + x^s e^−x, from Γ(1, x) or Γ(½, x) upwards.
    while shape <= degrees / 2.0:
        tail += exp((shape - 1.0) * log(half) - half - lgamma(shape))
        shape += 1.0
    return min(tail, 1.0)
