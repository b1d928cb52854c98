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
    groups : (n,) int, optional
        Group of each score; without it each is a group by itself.

    Notes
    -----
    Items of one group (a patient, a part, a recording) resemble each other: a new item comes from a new
    group, and it is the groups that are exchangeable with its own, not their items. Each group counts as
    one, shared among its scores: with weights w that sum to G, the number of groups,
    p = (1 + Σ w·[score ≥ s]) / (G + 1), for which P(p ≤ α) ≤ α holds for an item of a new group
    (hierarchical conformal prediction). Groups of one score each give the usual ranks.

    Source: Lee, Barber and Willett, Distribution-free inference with hierarchical data, 2023; Dunn,
    Wasserman and Ramdas, Distribution-free prediction sets for two-layer hierarchical models, 2023.

    Attributes
    ----------
    ordered : (n,) float64
        The scores, ascending.
    n_groups : int
        Number of groups: of scores, where they have none.
    basis : str or None
        ``"rank"`` where the ranks reach the rate, ``"tail"`` where a fitted tail does, None where no
        verdict is given.
    threshold : float or None
        A score strictly above it is anomalous; None without a verdict.
    expected : float or None
        Expected false-alarm rate on new normal items with continuous scores: by rank the largest p-value not
        above the rate (⌊rate · (n+1)⌋ / (n+1) without groups), the asked rate by the tail (which errs on the
        low side).
    note : str or None
        Why there is no verdict, or that the tail was used.
    """

    def __init__(self, scores: Floats, rate: float, groups: npt.NDArray[np.intp] | None = None) -> None:
        self.rate = rate
        self.n = len(scores)
        if groups is None:
            self.ordered = np.sort(scores)
            self.n_groups = self.n
            self._weight_from: Floats = np.arange(self.n, -1, -1, dtype=np.float64)
        else:
            order = np.argsort(scores, kind="stable")
            self.ordered = scores[order]
            _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
            self.n_groups = len(sizes)
            shares = 1.0 / sizes[member[order]]
            # rounded so that the shares of a whole group add up to one
            self._weight_from = np.round(np.concatenate([np.cumsum(shares[::-1])[::-1], [0.0]]), 9)
        self.basis: str | None = None
        self.threshold: float | None = None
        self.expected: float | None = None
        self.note: str | None = None
        self._tail: Tail | None = None
        given = f"{self.n} normal scores"
        if self.n_groups < self.n:
            given += f" of {self.n_groups} groups, which count as one each,"
        # How many of the equally likely ranks of a new normal score among the groups may count as anomalous.
        ranks = rate * (self.n_groups + 1) * (1 + _ROUNDING)
        if self.n < FEWEST_RANKED:
            self.note = f"{self.n} normal scores: p-values need {FEWEST_RANKED}, {self._needed()}"
        elif ranks >= 1:
            # beyond the threshold lies as much weight as the rate allows, the new score counting as one
            lowest = int(np.argmax(self._weight_from[1:] <= ranks - 1))
            self.basis = "rank"
            self.threshold = float(self.ordered[lowest])
            self.expected = float((1 + self._weight_from[lowest + 1]) / (self.n_groups + 1))
        elif self.n_groups < FEWEST_SCORES or ranks < REACH:
            self.note = f"{given} are too few for a verdict; {self._needed()}"
        else:
            self._tail = fit_tail(self.ordered)
            if self._tail is None:
                self.note = (
                    f"the highest of {self.n} normal scores hardly differ, so that no tail can be fitted; "
                    f"a false-alarm rate of {rate:g} needs {normals_for_ranks(rate)} {self._units}"
                )
            else:
                self.basis = "tail"
                self.expected = rate
                self.threshold = self._tail_threshold()
                self.note = (
                    f"verdicts rest on a tail fitted to {given.rstrip(',')}; "
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
            (1 + #{calibration ≥ score}) / (n + 1), groups weighted as above, times the tail beyond the
            highest where it is fitted; NaN where there are fewer than `FEWEST_RANKED` scores.
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
        not_below = self._weight_from[np.searchsorted(self.ordered, scores, side="left")]
        p_value: Floats = (1.0 + not_below) / (self.n_groups + 1)
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

    @property
    def needed(self) -> int:
        """Fewest normal scores, or groups of them, that give a verdict at the rate."""
        tail = max(FEWEST_SCORES, math.ceil(REACH / self.rate * (1 - _ROUNDING)) - 1)
        return min(tail, normals_for_ranks(self.rate))

    def _needed(self) -> str:
        ranks = normals_for_ranks(self.rate)
        by_rank = f" (by rank {ranks})" if self.needed < ranks else ""
        return f"a verdict at a false-alarm rate of {self.rate:g} needs {self.needed} {self._units}{by_rank}"

    @property
    def _units(self) -> str:
        return "groups" if self.n_groups < self.n else "normals"


def normals_for_ranks(rate: float) -> int:
    """Fewest normal scores whose ranks alone reach a false-alarm rate."""
    return max(FEWEST_RANKED, math.ceil(1 / rate * (1 - _ROUNDING)) - 1)
