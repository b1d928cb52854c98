"""Several detectors as one: their scores on one scale, their p-values as one p-value."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadItems, BadSource
from offnominal.decide.inputs import Floats, check_scores

Merging = Literal["mean", "geometric", "bonferroni", "harmonic", "fisher"]
FEWEST_CALIBRATING = 2
_KNOTS = 2_048
_TAIL = 0.1  # share of the scores that tells how far apart high scores lie


def combine_p_values(p: npt.ArrayLike, how: Merging = "geometric") -> Floats:
    """Merge the p-values of several detectors into one for each item.

    Parameters
    ----------
    p : (n, m) array
        p-values of m detectors on n items, in [0, 1]; NaN = none, and then there is none for the item.
    how : {"mean", "geometric", "bonferroni", "harmonic", "fisher"}, default "geometric"
        Twice the mean; e times the geometric mean; m times the lowest; e·log(m) times the harmonic mean
        (twice it for two detectors). These hold whatever the dependence between the detectors. Fisher's holds
        for independent ones only, which detectors on the same items are not.

    Returns
    -------
    (n,) float64
        In [0, 1]: P(p ≤ α) ≤ α for a normal item wherever that holds for each detector.

    Raises
    ------
    BadSource, BadItems
        Not p-values, named by position.

    Notes
    -----
    Factors make merged p-values err on the low side where detectors agree. For verdicts at a stated rate
    calibrate the combined score instead, as the detector ``auto`` does.

    References
    ----------
    Vovk and Wang, Combining p-values via averaging, Biometrika, 2020.
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise BadSource(f"p-values are (n, m), one column a detector, got shape {values.shape}")
    bad = np.flatnonzero(((values < 0) | (values > 1)).any(axis=1))
    if len(bad):
        remedy = "a p-value is between 0 and 1, NaN where there is none"
        raise BadItems([BadItem(f"p-values at position {i}", f"are {values[i]}", remedy) for i in bad])
    m = values.shape[1]
    if m == 1:
        return values[:, 0].copy()
    with np.errstate(divide="ignore"):
        logs = np.log(values)
        if how == "mean":
            merged = 2 * values.mean(axis=1)
        elif how == "geometric":
            merged = math.e * np.exp(logs.mean(axis=1))
        elif how == "bonferroni":
            merged = m * values.min(axis=1)
        elif how == "harmonic":
            merged = (2 if m == 2 else math.e * math.log(m)) / (1 / values).mean(axis=1)
        elif how == "fisher":
            from scipy.special import gammaincc

            merged = gammaincc(m, -logs.sum(axis=1))
        else:
            raise ValueError(f"how must be mean, geometric, bonferroni, harmonic or fisher, got {how!r}")
    bounded: Floats = np.minimum(merged, 1.0)
    return bounded


class Surprise:
    """How surprising a score is among normal ones: −log of its conformal p-value, continued beyond them.

    Scores of detectors as different as a distance and a log-density become comparable, and keep their order:
    between calibration scores the value is interpolated, and beyond the highest it grows in proportion to the
    distance, by 1 for each mean excess of the highest tenth (an exponential tail).

    Parameters
    ----------
    knots : (k,) float64
        Scores, strictly ascending.
    values : (k,) float64
        What they are worth, never descending.
    slope : float
        Growth beyond the highest knot.
    """

    def __init__(self, knots: Floats, values: Floats, slope: float) -> None:
        self.knots, self.values, self.slope = knots, values, slope

    @classmethod
    def of(cls, scores: npt.ArrayLike) -> Surprise:
        """Learn from scores of normal items that the model has not seen.

        Parameters
        ----------
        scores : (n,) array
            At least 2; of more than 2 048 different ones the lower are thinned out.

        Raises
        ------
        BadSource, BadItems
            Too few, or not finite.
        """
        ordered = np.sort(check_scores(scores))
        n = len(ordered)
        if n < FEWEST_CALIBRATING:
            raise BadSource(f"calibration needs at least {FEWEST_CALIBRATING} scores, got {n}")
        knots, first = np.unique(ordered, return_index=True)
        values = -np.log((1 + n - first) / (n + 1))
        if len(knots) > _KNOTS:
            # as dense in −log p as they are many at the top
            from_top = np.unique(np.round(np.geomspace(1, len(knots), _KNOTS)).astype(np.intp))
            kept = (len(knots) - from_top)[::-1]
            knots, values = knots[kept], values[kept]
        above = ordered[-max(math.ceil(_TAIL * n), 2) :]
        excess = float((above - above[0]).mean())
        if excess <= 0:
            excess = float(ordered[-1] - ordered[0]) or max(abs(float(ordered[-1])), 1.0)
        return cls(knots, values, 1 / excess)

    def __call__(self, scores: Floats) -> Floats:
        """Surprise (n,) of scores (n,): at least 0, never descending with the score."""
        inside: Floats = np.interp(scores, self.knots, self.values)
        beyond: Floats = np.maximum(scores - self.knots[-1], 0.0) * self.slope
        return inside + beyond
