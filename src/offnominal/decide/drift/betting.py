"""A bet against p-values being uniform: wealth that grows only where they are not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.decide.inputs import Floats

SHAPES = (0.5, 1.0, 2.0)
"""Both parameters of the beta densities that are bet on: low, high, extreme or middling p-values, or none."""
JUMPS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Chances of changing the density before a p-value; one bettor a chance, who all start with the same."""
_LEAST = 1e-12  # a p-value of 0 is possible by rounding only; counting it as more than it is loses wealth


class Bettor:
    """Wealth of a gambler who starts with 1 and bets on a changing beta density of the p-values.

    With independent uniform p-values the wealth is a martingale: the chance that it ever reaches 1/α is at
    most α, however long one looks (Ville's inequality). Each of several gamblers spreads the wealth over nine
    beta densities, the uniform one among them, and before each p-value moves a fixed share of it back to all
    nine alike ("jumps"), so that what was good for the past does not bind the future.

    Attributes
    ----------
    log_wealth : float
        Natural logarithm of the mean wealth of the gamblers.

    Notes
    -----
    Source: Vovk, Petej, Nouretdinov, Ahlberg, Carlsson and Gammerman, Retrain or not retrain: conformal test
    martingales for change-point detection, COPA 2021 (the composite jumper). Their bets are linear in the
    p-value; beta densities grow faster where scores turn extreme.
    """

    def __init__(self) -> None:
        pairs = [(a, b) for a in SHAPES for b in SHAPES]
        self._powers = np.array([(a - 1, b - 1) for a, b in pairs])
        self._norms = np.array([math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) for a, b in pairs])
        self._jumps = np.array(JUMPS)[:, None]
        self._shares = np.full((len(JUMPS), len(pairs)), 1 / len(pairs))
        self._logs = np.zeros(len(JUMPS))

    @property
    def log_wealth(self) -> float:
        """Natural logarithm of the mean wealth."""
        top = self._logs.max()
        return float(top + np.log(np.exp(self._logs - top).mean()))

    def bet(self, p_value: float) -> float:
        """Bet, then see a p-value in [0, 1]; returns the logarithm of the wealth after it."""
        low, high = max(p_value, _LEAST), max(1 - p_value, _LEAST)
        densities = np.exp(self._norms + self._powers @ (math.log(low), math.log(high)))
        grown = ((1 - self._jumps) * self._shares + self._jumps / len(densities)) * densities
        gains = grown.sum(axis=1)
        self._shares = grown / gains[:, None]
        self._logs = self._logs + np.log(gains)
        return self.log_wealth

    def state(self) -> dict[str, Any]:
        """What was learned, as one-dimensional float64 arrays."""
        return {"logs": self._logs.copy(), "shares": self._shares.ravel().copy()}

    def take(self, state: dict[str, Any]) -> None:
        """Go on from a `state`.

        Raises
        ------
        ValueError
            It is not one.
        """
        logs, shares = (np.asarray(state[key], np.float64) for key in ("logs", "shares"))
        if logs.shape != self._logs.shape or shares.shape != (self._shares.size,):
            raise ValueError("wealth of another number of gamblers")
        spread = shares.reshape(self._shares.shape)
        if not np.isfinite(logs).all() or (spread < 0).any() or not _sums_to_one(spread):
            raise ValueError("the wealth is not one")
        self._logs, self._shares = logs, spread


def _sums_to_one(spread: npt.NDArray[np.float64]) -> bool:
    sums: Floats = spread.sum(axis=1)
    return bool(np.abs(sums - 1).max() < 1e-6)
