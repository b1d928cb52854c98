"""The tail of normal scores beyond the highest one seen: at most one decade, on the careful side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from offnominal.decide.inputs import Floats

FEWEST_SCORES = 50
REACH = 0.1
"""Lowest probability given, relative to that of a new highest score: one decade."""

_SHAPE_LIMIT = 1.0
_LIKELIHOOD_DROP = 0.5
_BENDS = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 241)])


@dataclass(frozen=True)
class Tail:
    """Probability that a normal score goes beyond the highest calibration score, given how far beyond.

    Above an order statistic u the excess is taken as generalised Pareto, 1 + bend · excess being a power of
    an exponential variable, so that z = log(1 + bend · excess) / bend is exponential (z = excess for
    bend = 0). For an exponential variable the law of a *new* value in terms of the k highest spacings is
    known without knowing its scale: with E_j = j · (j-th spacing from the top) independent exponentials
    (Rényi), T = ΣE_j, the probability that a new value exceeds the maximum by more than c·T is
    1/(n+1) · Π_j 1 / (1 + c · j/(j+1)), j = 1 … k, averaged over calibration sets. That product is used: it
    is continuous with the rank at the maximum, and exact rather than plug-in for exponential tails.

    Two constraints keep it careful. The bend is never negative: a bounded tail is never assumed. And it is
    not the likeliest bend but the largest one whose profile likelihood (Grimshaw, 1993) is within a factor
    exp(−½) of the best, so that tails heavier than they look in k scores are still held; a sample that
    gives no ground for a bend falls back to the exponential. The shape (extreme-value index) stays ≤ 1.

    Attributes
    ----------
    start, highest : float
        The order statistic u and the highest calibration score, in score units.
    bend : float
        Shape over scale, in 1/score units; 0 for an exponential tail.
    total : float
        T, in z units.
    used : int
        k, the number of calibration scores above ``start``.

    References
    ----------
    Rényi, On the theory of order statistics, 1953. Grimshaw, Computing maximum likelihood estimates for the
    generalized Pareto distribution, Technometrics, 1993. Pickands, Statistical inference using extreme order
    statistics, 1975.
    """

    start: float
    highest: float
    bend: float
    total: float
    used: int

    @property
    def shape(self) -> float:
        """Extreme-value index: mean z-to-log ratio, 0 for an exponential tail."""
        return self.bend * self.total / self.used

    def beyond(self, scores: Floats) -> Floats:
        """Probability of going beyond each score, relative to that of going beyond the highest.

        Parameters
        ----------
        scores : (n,) float64
            Not below ``highest``.

        Returns
        -------
        (n,) float64
            In [`REACH`, 1], 1 at ``highest``, never increasing.
        """
        with np.errstate(over="ignore"):
            c = (self._straight(scores) - self._straight(np.float64(self.highest))) / self.total
        ranks = np.arange(1, self.used + 1)
        logs = np.zeros(len(scores))
        for weight in ranks / (ranks + 1):
            logs -= np.log1p(np.maximum(c, 0.0) * weight)
        return np.maximum(np.exp(logs), REACH)

    def _straight(self, scores: Floats | np.float64) -> Floats:
        excess = np.asarray(scores - self.start)
        return np.log1p(self.bend * excess) / self.bend if self.bend > 0 else excess


def fit_tail(ordered: Floats) -> Tail | None:
    """Fit the tail of normal scores.

    Parameters
    ----------
    ordered : (n,) float64
        Calibration scores, ascending.

    Returns
    -------
    Tail or None
        None where there are fewer than `FEWEST_SCORES`, or where fewer than half of the highest ones
        differ: then there is no spread to extrapolate from.
    """
    n = len(ordered)
    if n < FEWEST_SCORES:
        return None
    # Fewer scores fit the shape too loosely, more reach into the body; chosen by simulation.
    used = min(max(n // 10, 10), 20)
    start, top = ordered[-used - 1], ordered[-used:]
    if len(np.unique(top[top > start])) < used / 2:
        return None
    with np.errstate(over="ignore"):
        excess = top - start
        size = excess.mean()
        if not math.isfinite(size):
            return None
        excess = excess / size
    if not np.isfinite(excess).all():
        return None
    bend = _largest_plausible_bend(excess)
    z = np.log1p(bend * excess) / bend if bend > 0 else excess
    scaled_bend, total = bend / size, z.sum() * size
    if not (math.isfinite(scaled_bend) and math.isfinite(total) and total > 0):
        return None
    return Tail(float(start), float(ordered[-1]), float(scaled_bend), float(total), used)


def _largest_plausible_bend(excess: Floats) -> float:
    """Largest bend, in units of 1/mean excess, that the profile likelihood does not speak against."""
    shapes = np.log1p(_BENDS[1:, None] * excess).mean(axis=1)
    likelihoods = -len(excess) * (np.log(shapes / _BENDS[1:]) + shapes + 1)
    likelihoods = np.concatenate([[-float(len(excess))], likelihoods])
    allowed = np.concatenate([[0.0], shapes]) <= _SHAPE_LIMIT
    plausible = allowed & (likelihoods >= likelihoods.max() - _LIKELIHOOD_DROP)
    if plausible.any():
        return float(_BENDS[plausible][-1])
    return float(_BENDS[allowed][-1])  # heavier than any shape that is allowed
