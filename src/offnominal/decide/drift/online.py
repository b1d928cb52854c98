"""Drift of a stream of scores, looked at after each score for as long as one likes."""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource, ModelRefused
from offnominal.decide.drift.betting import Bettor
from offnominal.decide.inputs import Floats, check_rate, check_scores

FEWEST_REFERENCE = 20
"""Fewest reference scores (blocks of them where they are blocked)."""
_TIMES = 10  # blocks of so many correlation times hardly remember one another
_SPAN = 5  # the correlation is summed over so many of the times it adds up to


class Watched(NamedTuple):
    """What a test says after each of the scores that it was shown.

    Attributes
    ----------
    p_value : (n,) float64
        Randomised conformal p-value of each score among all before it, in [0, 1]; of a block at its last
        score, NaN at the others. Low where the score is high.
    log_wealth : (n,) float64
        Natural logarithm of the evidence against "no drift" after each score; drift at log(1/rate).
    drifted : (n,) bool
        Whether drift has been found by then; once found it stays.
    """

    p_value: Floats
    log_wealth: Floats
    drifted: npt.NDArray[np.bool_]


class ScoreDrift:
    """Test for drift of a stream of scores that may be looked at after each score.

    Each score gets its conformal p-value among all scores before it, ties broken at random under the seed,
    and then joins them. As long as the reference scores and the stream are exchangeable these p-values are
    independent and uniform, and `Bettor`, who bets against that, reaches a wealth of 1/rate with a chance of
    at most the rate, over the whole of an endless stream.

    Parameters
    ----------
    false_alarm_rate : float, default 0.01
        Chance that drift is ever found in a stream without, in (0, 1).
    block : int, default 1
        So many scores in a row count as one, their mean; for streams whose neighbours are alike, see
        `block_length`. Reference and stream are then both taken in their order.
    seed : int, default 0
        Of what breaks ties.

    Notes
    -----
    The reference must be scores of items the model has not been fitted on, as a decision's are. It is what
    makes the test alert early: with m reference scores the smallest p-value is about 1/m. A reference that
    stays fixed would be wrong: all p-values would then share its accidents, and the wealth would grow on them
    (docs/benchmarks/drift.md measures it). What has drifted joins the reference as well; a drift is therefore
    found soon after it began or not at all, and after an alarm a new test is to be started.

    `block` rests on blocks being nearly independent, which no finite length makes exact.

    One score takes O(log n) and a move of the sorted scores; 8 bytes a score are kept.

    References
    ----------
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, second edition, 2022, chapter 8. Vovk,
    Testing randomness online, Statistical Science, 2021.
    """

    def __init__(self, false_alarm_rate: float = 0.01, block: int = 1, seed: int = 0) -> None:
        check_rate(false_alarm_rate, "false_alarm_rate")
        if not isinstance(block, int) or block < 1:
            raise ValueError(f"block must be a whole number, at least 1, got {block!r}")
        self.false_alarm_rate = false_alarm_rate
        self.block = block
        self.seed = seed
        self._seen = array("d")
        self._open: list[float] = []
        self._bettor = Bettor()
        self._alarm = False
        self._judged = 0

    def fit(self, scores: npt.ArrayLike) -> Self:
        """Take the reference scores; what was watched before is forgotten.

        Parameters
        ----------
        scores : (n,) array
            Of normal items the model has not been fitted on; in the order of the stream where ``block`` is
            above 1. A last block that is not full is left out.

        Raises
        ------
        BadSource, BadItems
            Too few, or not finite.
        """
        values = check_scores(scores)
        whole = len(values) // self.block
        if whole < FEWEST_REFERENCE:
            raise BadSource(
                f"{len(values)} reference scores make {whole} blocks of {self.block}; drift needs "
                f"{FEWEST_REFERENCE} of them"
            )
        means = values[: whole * self.block].reshape(whole, self.block).mean(axis=1)
        self._seen = array("d", np.sort(means).tolist())
        self._open, self._bettor, self._alarm, self._judged = [], Bettor(), False, 0
        self._random = np.random.Generator(np.random.PCG64(self.seed))
        return self

    @property
    def drifted(self) -> bool:
        """Whether drift has been found."""
        return self._alarm

    @property
    def log_wealth(self) -> float:
        """Natural logarithm of the evidence against "no drift" so far."""
        return self._bettor.log_wealth

    def watch(self, scores: npt.ArrayLike) -> Watched:
        """See the next scores of the stream, one after another.

        Parameters
        ----------
        scores : (n,) array
            In their order. Watching them in several calls says the same as in one.

        Raises
        ------
        BadSource, BadItems
            The test has no reference yet, or scores are not finite.
        """
        if not self._seen:
            raise BadSource("the drift test has no reference scores yet; call fit first")
        values = check_scores(scores)
        n = len(values)
        found = Watched(np.full(n, np.nan), np.empty(n), np.empty(n, np.bool_))
        enough = -math.log(self.false_alarm_rate)
        wealth = self._bettor.log_wealth
        for at, score in enumerate(values.tolist()):
            self._open.append(score)
            if len(self._open) == self.block:
                p_value = self._p_value(float(np.mean(self._open)))
                self._open = []
                found.p_value[at] = p_value
                wealth = self._bettor.bet(p_value)
                self._alarm = self._alarm or wealth >= enough
            found.log_wealth[at], found.drifted[at] = wealth, self._alarm
        return found

    def _p_value(self, score: float) -> float:
        """Rank of a score among all so far, itself one of them, a tie anywhere among its equals."""
        first = bisect.bisect_left(self._seen, score)
        last = bisect.bisect_right(self._seen, score, first)
        above, equal = len(self._seen) - last, last - first + 1
        self._seen.insert(last, score)
        self._judged += 1
        return float((above + self._random.random() * equal) / len(self._seen))

    def get_params(self) -> dict[str, Any]:
        """Constructor arguments by name."""
        return {"false_alarm_rate": self.false_alarm_rate, "block": self.block, "seed": self.seed}

    def state(self) -> dict[str, Any]:
        """What was seen so far, as JSON values and one-dimensional float64 arrays; empty before `fit`."""
        if not self._seen:
            return {}
        return {
            "seen": np.array(self._seen),
            "open": np.array(self._open),
            "judged": self._judged,
            "drifted": self._alarm,
            **self._bettor.state(),
        }

    @classmethod
    def restore(cls, params: Mapping[str, Any], state: Mapping[str, Any]) -> Self:
        """Make the test again from `get_params` and `state`; it goes on as if it had never stopped.

        Raises
        ------
        ModelRefused
            The two do not describe a drift test.
        """
        try:
            made = cls(**params)
            if not state:
                return made
            seen, opened = check_scores(state["seen"]), check_scores(state["open"])
            judged, drifted = state["judged"], state["drifted"]
            if (np.diff(seen) < 0).any() or not len(seen) or len(opened) >= made.block:
                raise ValueError("the scores seen are not ascending, or a block is open that is full")
            if type(judged) is not int or not 0 <= judged <= len(seen) or type(drifted) is not bool:
                raise ValueError("the count of scores is not one")
            made._seen, made._open = array("d", seen.tolist()), opened.tolist()
            made._judged, made._alarm = judged, drifted
            made._bettor.take(dict(state))
            bits = np.random.PCG64(made.seed)
            bits.advance(judged)
            made._random = np.random.Generator(bits)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelRefused(f"the stored drift test is damaged: {error!r}") from error
        return made


def block_length(scores: npt.ArrayLike) -> int:
    """How many scores in a row should count as one, from how alike neighbours are.

    Parameters
    ----------
    scores : (n,) array
        Scores of a stream without drift, in their order; at least some hundred.

    Returns
    -------
    int
        1 where neighbours are not alike, else ten times the correlation time 1 + 2·Σ ρ(k), summed over five
        times its length (Sokal's rule), and at most n/20, so that the reference makes enough blocks: where
        that bound is met, the stream remembers for longer than this reference can tell.
    """
    values = check_scores(scores)
    n = len(values)
    centred = values - values.mean() if n else values
    power = float(centred @ centred)
    if n < 2 * FEWEST_REFERENCE or power == 0:
        return 1
    spectrum = np.fft.rfft(centred, 2 * n)
    correlation = np.fft.irfft(spectrum * np.conj(spectrum))[:n] / power
    if correlation[1] < 2 / math.sqrt(n):
        return 1
    times = 2 * np.cumsum(correlation) - 1
    enough = np.flatnonzero(np.arange(n) >= _SPAN * times)
    time = float(times[enough[0]]) if len(enough) else float(n)
    return max(1, min(math.ceil(_TIMES * time), n // FEWEST_REFERENCE))
