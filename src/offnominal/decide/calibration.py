"""One set of normal scores and what it can say at a false-alarm rate: by rank, by its tail, or nothing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from offnominal.decide.inputs import Floats
from offnominal.decide.tail import FEWEST_SCORES, REACH, Tail, fit_tail

FEWEST_RANKED = 20
"""Fewest normal scores from which a p-value is given."""

_ROUNDING = 1e-12


class Calibration:
    """Normal scores of one product, or of all, at one false-alarm rate.

    Parameters
    ----------
    scores : (n,) float64
        Scores of normal items, in any order.
    rate : float
        False-alarm rate asked for, in (0, 1).

    Attributes
    ----------
    ordered : (n,) float64
        The scores, ascending.
    basis : str or None
        ``"rank"`` where the ranks reach the rate, ``"tail"`` where a fitted tail does, None where no
        verdict is given.
    threshold : float or None
        A score strictly above it is anomalous; None without a verdict.
    expected : float or None
        Expected false-alarm rate on new normal items with continuous scores: ⌊rate · (n+1)⌋ / (n+1) by
        rank, the asked rate by the tail (which errs on the low side).
    note : str or None
        Why there is no verdict, or that the tail was used.
    """

    def __init__(self, scores: Floats, rate: float) -> None:
        self.ordered = np.sort(scores)
        self.rate = rate
        self.n = len(scores)
        self.basis: str | None = None
        self.threshold: float | None = None
        self.expected: float | None = None
        self.note: str | None = None
        self._tail: Tail | None = None
        # How many of the n + 1 equally likely ranks of a new normal score may count as anomalous.
        ranks = rate * (self.n + 1) * (1 + _ROUNDING)
        if self.n < FEWEST_RANKED:
            self.note = f"{self.n} normal scores: p-values need {FEWEST_RANKED}, {self._needed()}"
        elif ranks >= 1:
            allowed = min(math.floor(ranks), self.n)
            self.basis = "rank"
            self.threshold = float(self.ordered[self.n - allowed])
            self.expected = allowed / (self.n + 1)
        elif self.n < FEWEST_SCORES or ranks < REACH:
            self.note = f"{self.n} normal scores are too few for a verdict; {self._needed()}"
        else:
            self._tail = fit_tail(self.ordered)
            if self._tail is None:
                self.note = (
                    f"the highest of {self.n} normal scores hardly differ, so that no tail can be fitted; "
                    f"a false-alarm rate of {rate:g} needs {normals_for_ranks(rate)} normals"
                )
            else:
                self.basis = "tail"
                self.expected = rate
                self.threshold = self._tail_threshold()
                self.note = (
                    f"verdicts rest on a tail fitted to {self.n} normal scores; "
                    f"by rank a false-alarm rate of {rate:g} needs {normals_for_ranks(rate)}"
                )

    def judge(self, scores: Floats) -> tuple[Floats, npt.NDArray[np.int8], npt.NDArray[np.object_]]:
        """p-values, verdicts and bases of new scores.

        Parameters
        ----------
        scores : (m,) float64
            Finite.

        Returns
        -------
        p_value : (m,) float64
            (1 + #{calibration ≥ score}) / (n + 1), times the tail beyond the highest where it is fitted;
            NaN where there are fewer than `FEWEST_RANKED` scores.
        anomalous : (m,) int8
            1, 0, or −1 without a verdict.
        basis : (m,) object
            ``"rank"``, ``"tail"`` or None.
        """
        m = len(scores)
        if self.n < FEWEST_RANKED:
            return np.full(m, np.nan), np.full(m, -1, np.int8), np.full(m, None, dtype=object)
        p_value = self.p_values(scores)
        basis = np.full(m, "rank", dtype=object)
        if self._tail is not None:
            basis[scores > self.ordered[-1]] = "tail"
        if self.threshold is None:
            return p_value, np.full(m, -1, np.int8), basis
        return p_value, (scores > self.threshold).astype(np.int8), basis

    def p_values(self, scores: Floats) -> Floats:
        """p-values alone; a calibration score equal to the judged one counts against it."""
        not_below = self.n - np.searchsorted(self.ordered, scores, side="left")
        p_value = (1.0 + not_below) / (self.n + 1)
        if self._tail is not None:
            above = scores > self.ordered[-1]
            p_value[above] *= self._tail.beyond(scores[above])
        return p_value

    def _tail_threshold(self) -> float:
        """Largest score whose p-value is still above the rate, searched to the last bit."""
        limit = self.rate * (1 + _ROUNDING)
        largest = float(np.finfo(np.float64).max)
        low = float(self.ordered[-1])
        step = min(low - float(self.ordered[0]), largest)
        while low + step < largest and self.p_values(np.array([low + step]))[0] > limit:
            step *= 2
        high = min(low + step, largest)
        weights = np.linspace(0, 1, 65)
        while True:
            between = np.unique(low * (1 - weights) + high * weights)
            between = between[(between > low) & (between < high)]
            if not len(between):
                return low
            short = np.count_nonzero(self.p_values(between) > limit)
            ends = [low, *between.tolist(), high]
            low, high = ends[short], ends[short + 1]

    def _needed(self) -> str:
        tail = max(FEWEST_SCORES, math.ceil(REACH / self.rate * (1 - _ROUNDING)) - 1)
        ranks = normals_for_ranks(self.rate)
        if tail < ranks:
            return f"a verdict at a false-alarm rate of {self.rate:g} needs {tail} (by rank {ranks})"
        return f"a verdict at a false-alarm rate of {self.rate:g} needs {ranks}"


def normals_for_ranks(rate: float) -> int:
    """Fewest normal scores whose ranks alone reach a false-alarm rate."""
    return max(FEWEST_RANKED, math.ceil(1 / rate * (1 - _ROUNDING)) - 1)
