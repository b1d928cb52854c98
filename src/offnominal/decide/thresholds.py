"""Decisions that are one threshold: stated, or read off the scores at a quantile."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource, ModelRefused, NoDecisionError
from offnominal.core.store import is_json
from offnominal.decide.base import Decision, Verdicts
from offnominal.decide.inputs import (
    Floats,
    Labels,
    check_labels,
    check_products,
    check_rate,
    check_scores,
    is_number,
    normal_positions,
)
from offnominal.decide.tally import tally

_ROUNDING = 1e-9


class Threshold(Decision):
    """A score strictly above one threshold is anomalous; basis ``"declared"``, no p-value.

    Subclasses say how the threshold comes about.
    """

    unlabelled_are_normal: ClassVar[bool] = True
    """Whether scores given without labels count as normal in the reported false-alarm rate."""

    _threshold: float | None = None
    _tally: dict[str, Any] | None = None

    @abstractmethod
    def _choose(self, scores: Floats, labels: Labels | None) -> float:
        """Return the threshold for checked scores and labels."""

    def fit(
        self,
        scores: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        products: Sequence[str | None] | None = None,
        groups: Sequence[Hashable] | None = None,
    ) -> Self:
        """Choose the threshold and count the normals above it, groups or not; see `Decision.fit`."""
        values = check_scores(scores)
        checked = check_labels(labels, len(values))
        names = check_products(products, len(values))
        self._threshold = self._choose(values, checked)
        if self.unlabelled_are_normal:
            at = normal_positions(checked, len(values))
        else:
            at = np.flatnonzero(checked == 0) if checked is not None else np.arange(0)
        self._tally = tally(values[at], [names[i] for i in at], self._threshold)
        return self

    def judge(self, scores: npt.ArrayLike, products: Sequence[str | None] | None = None) -> Verdicts:
        """Verdicts; products make no difference. See `Decision.judge`."""
        threshold = self._known_threshold()
        values = check_scores(scores)
        check_products(products, len(values))
        anomalous = (values > threshold).astype(np.int8)
        return Verdicts(self._p_values(values), anomalous, ["declared"] * len(values))

    def _p_values(self, scores: Floats) -> Floats:
        return np.full(len(scores), np.nan)

    @property
    def threshold(self) -> float | None:
        """Score strictly above which an item is anomalous; None before `fit` where fitting finds it."""
        return self._threshold

    def report(self) -> dict[str, Any]:
        """Describe the decision; see `Decision.report`."""
        threshold = self._known_threshold()
        seen = self._tally or {"n": 0, "realised_false_alarm_rate": None, "products": {}}
        asked = self.get_params().get("false_alarm_rate")
        return {
            "decision": self.name,
            "parameters": self.get_params(),
            "asked_false_alarm_rate": asked,
            "expected_false_alarm_rate": asked,
            "basis": "declared",
            "threshold": threshold,
            "note": None,
            **seen,
        }

    def state(self) -> dict[str, Any]:
        """Threshold and tally of the fit, JSON only."""
        return {} if self._tally is None else {"threshold": self._threshold, "tally": self._tally}

    @classmethod
    def restore(cls, params: Mapping[str, Any], state: Mapping[str, Any]) -> Self:
        """Make the decision again; see `Decision.restore`."""
        try:
            made = cls(**params)
            if not state:
                return made
            threshold, seen = state["threshold"], state["tally"]
            if not is_number(threshold):
                raise ValueError(f"threshold is {threshold!r}")
            keys = {"n", "realised_false_alarm_rate", "products"}
            if not isinstance(seen, dict) or set(seen) != keys or not is_json(seen):
                raise ValueError("the count of false alarms is not one")
            made._threshold, made._tally = float(threshold), dict(seen)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelRefused(f"the stored {cls.name} decision is damaged: {error!r}") from error
        return made

    def _known_threshold(self) -> float:
        known = self.threshold
        if known is None:
            raise NoDecisionError(f"the {self.name} decision is not fitted; calibrate on scores first")
        return known


class Fixed(Threshold):
    """A threshold the user states; needs no fit, which then only counts false alarms for the report.

    Parameters
    ----------
    threshold : float
        Finite; a score strictly above it is anomalous.
    """

    name: ClassVar[str] = "fixed"

    def __init__(self, threshold: float) -> None:
        if not is_number(threshold):
            raise ValueError(f"threshold must be a finite number, got {threshold!r}")
        self._threshold = threshold

    def _choose(self, scores: Floats, labels: Labels | None) -> float:
        return self._known_threshold()


class Quantile(Threshold):
    """Threshold at a quantile of the normal scores: the lowest score with at most 1 − q of them above it.

    Parameters
    ----------
    q : float
        In (0, 1]; 1 gives the highest normal score.

    Notes
    -----
    Unlike `Conformal` it makes no allowance for the size of the calibration set: with n normals the
    expected false-alarm rate is up to 1/(n+1) above 1 − q.
    """

    name: ClassVar[str] = "quantile"

    def __init__(self, q: float) -> None:
        if not is_number(q) or not 0 < q <= 1:
            raise ValueError(f"q must be a number above 0, at most 1, got {q!r}")
        self.q = q

    def _choose(self, scores: Floats, labels: Labels | None) -> float:
        normals = scores[normal_positions(labels, len(scores))]
        if not len(normals):
            raise BadSource("a quantile needs at least one normal score, got none")
        return with_share_above(normals, 1 - self.q)


class Contamination(Threshold):
    """Threshold that flags a stated fraction of the fitted scores, anomalies among them; ignores labels.

    Parameters
    ----------
    fraction : float
        Fraction of the fitted items that are anomalous, in (0, 1). Of n distinct scores, ⌊fraction · n⌋
        are flagged; of tied ones fewer, never more.

    Notes
    -----
    This sets how many are flagged, not how many of the normal ones: it is no false-alarm rate.
    """

    name: ClassVar[str] = "contamination"
    unlabelled_are_normal: ClassVar[bool] = False

    def __init__(self, fraction: float) -> None:
        check_rate(fraction, "fraction")
        self.fraction = fraction

    def _choose(self, scores: Floats, labels: Labels | None) -> float:
        if not len(scores):
            raise BadSource("contamination needs at least one score, got none")
        return with_share_above(scores, self.fraction)


def with_share_above(scores: Floats, share: float) -> float:
    """Lowest of the scores that has at most a share of them strictly above it."""
    above = min(math.floor(share * len(scores) + _ROUNDING), len(scores) - 1)
    return float(np.partition(scores, len(scores) - 1 - above)[len(scores) - 1 - above])
