"""Whether scores follow the severity of anomalies, not only tell anomalies from normals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offnominal.metrics.checks import finite
from offnominal.metrics.counts import Floats


def concordance_index(levels: ArrayLike, scores: ArrayLike) -> float:
    """Share of the pairs of unequal severity in which the more severe item scores higher, ties counted half.

    With two levels this is `auroc`. Cost: n log n.

    Parameters
    ----------
    levels : array_like, shape (n,)
        Finite; higher = more severe, normal items lowest. Only their order counts.
    scores : array_like, shape (n,)
        Finite, any scale, higher = more anomalous.

    Returns
    -------
    float
        In [0, 1], 0.5 for scores that tell nothing; NaN where all items are of one level.

    Raises
    ------
    ValueError
        Shapes differ or are not one-dimensional, a value is not finite.

    References
    ----------
    F. E. Harrell et al., Evaluating the Yield of Medical Tests, JAMA 247 (1982), without censoring.
    """
    severity, ranked = _levels_and_scores(levels, scores)
    _, severity_rank, per_level = np.unique(severity, return_inverse=True, return_counts=True)
    _, score_rank, per_score = np.unique(ranked, return_inverse=True, return_counts=True)
    comparable = _pairs(np.asarray([len(severity)])) - _pairs(per_level)
    if comparable == 0:
        return float("nan")
    # Within a level scores fall, so that no pair of one level rises.
    order = np.lexsort((-score_rank, severity_rank))
    rising = _rising_pairs(score_rank[order])
    both = severity_rank.astype(np.int64) * len(per_score) + score_rank
    tied = _pairs(per_score) - _pairs(np.unique(both, return_counts=True)[1])
    return (rising + tied / 2.0) / comparable


def auroc_by_level(levels: ArrayLike, scores: ArrayLike, normal: float = 0.0) -> dict[float, float]:
    """Area under the ROC curve of each severity level's items against the normal ones.

    Parameters
    ----------
    levels : array_like, shape (n,)
        Finite; severity of each item.
    scores : array_like, shape (n,)
        Finite, any scale, higher = more anomalous.
    normal : float, default 0
        Level of the normal items.

    Returns
    -------
    dict of float to float
        Level → area, levels rising, without the normal one; NaN where there is no normal item.

    Raises
    ------
    ValueError
        Shapes differ or are not one-dimensional, a value is not finite.
    """
    severity, ranked = _levels_and_scores(levels, scores)
    ordinary = np.sort(ranked[severity == normal])
    areas: dict[float, float] = {}
    for level in np.unique(severity):
        if level == normal:
            continue
        found = ranked[severity == level]
        below = np.searchsorted(ordinary, found, side="left") + np.searchsorted(ordinary, found, side="right")
        areas[float(level)] = float(np.mean(below) / (2.0 * len(ordinary))) if len(ordinary) else float("nan")
    return areas


def _levels_and_scores(levels: ArrayLike, scores: ArrayLike) -> tuple[Floats, NDArray[np.floating]]:
    severity, ranked = finite(levels, "levels").astype(np.float64), finite(scores, "scores")
    if severity.ndim != 1 or severity.shape != ranked.shape:
        raise ValueError(
            "levels and scores must be one-dimensional and of one length, "
            f"got shapes {severity.shape} and {ranked.shape}"
        )
    return severity, ranked


def _pairs(counts: NDArray[np.intp]) -> int:
    """Number of pairs within groups of these sizes."""
    return int(np.sum(counts * (counts - 1) // 2))


def _rising_pairs(values: NDArray[np.intp]) -> int:
    """Number of i < j with values[i] < values[j], for whole numbers from 0 on.

    A pair rises at the highest bit in which its two values differ. Bit by bit from the top, values that agree
    so far stand together in their order; each one counts the zeros before it, then zeros are put before ones.
    """
    highest = int(values.max(initial=0))
    lower = np.concatenate(([0], np.cumsum(np.bincount(values, minlength=highest + 1))))
    place = np.arange(len(values))
    rising = 0
    for bit in range(highest.bit_length() - 1, -1, -1):
        one = (values >> bit) & 1 == 1
        start = lower[(values >> (bit + 1)) << (bit + 1)]
        zeros = np.cumsum(~one) - ~one
        zeros = zeros - zeros[start]
        rising += int(zeros[one].sum())
        target = np.where(one, lower[(values >> bit) << bit] + place - start - zeros, start + zeros)
        moved = np.empty_like(values)
        moved[target] = values
        values = moved
    return rising
