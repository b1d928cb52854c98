"""A false-alarm rate from the chi-square law of squared Mahalanobis distances."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from offnominal.core.errors import BadItem, BadItems
from offnominal.decide.inputs import Floats, Labels, check_rate, is_number
from offnominal.decide.thresholds import Threshold


class ChiSquare(Threshold):
    """p = P(χ²_k ≥ score²): for scores that are Mahalanobis distances of Gaussian vectors.

    Needs no fit, which then only counts false alarms for the report; compare them with the asked rate,
    because nothing else checks the law. The basis is ``"declared"``: the user vouches for it.

    Parameters
    ----------
    false_alarm_rate : float
        In (0, 1); the threshold is the distance that this share of normal items exceeds under the law.
    degrees_of_freedom : float
        Dimensions of the Gaussian vectors, above 0.

    References
    ----------
    Mahalanobis, On the generalised distance in statistics, 1936.
    """

    name: ClassVar[str] = "chi_square"

    def __init__(self, false_alarm_rate: float, degrees_of_freedom: float) -> None:
        check_rate(false_alarm_rate, "false_alarm_rate")
        if not is_number(degrees_of_freedom) or degrees_of_freedom <= 0:
            raise ValueError(f"degrees_of_freedom must be a number above 0, got {degrees_of_freedom!r}")
        self.false_alarm_rate = false_alarm_rate
        self.degrees_of_freedom = degrees_of_freedom

    @property
    def threshold(self) -> float:
        """Distance that a share ``false_alarm_rate`` of normal items exceeds under the law."""
        from scipy.special import chdtri

        return float(np.sqrt(chdtri(self.degrees_of_freedom, self.false_alarm_rate)))

    def _choose(self, scores: Floats, labels: Labels | None) -> float:
        _refuse_negative(scores)
        return self.threshold

    def _p_values(self, scores: Floats) -> Floats:
        from scipy.special import chdtrc

        _refuse_negative(scores)
        with np.errstate(over="ignore"):
            squared = scores**2
        return np.asarray(chdtrc(self.degrees_of_freedom, squared), dtype=np.float64)

    def report(self) -> dict[str, Any]:
        """Describe the decision, with the law it rests on; see `Decision.report`."""
        law = f"p-values assume squared scores to follow chi-square with k = {self.degrees_of_freedom:g}"
        return super().report() | {"note": law}


def _refuse_negative(scores: Floats) -> None:
    bad = np.flatnonzero(scores < 0)
    if len(bad):
        remedy = "chi-square takes distances; choose another decision for this score"
        raise BadItems([BadItem(f"score at position {i}", f"is negative, {scores[i]}", remedy) for i in bad])
