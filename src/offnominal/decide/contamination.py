"""How many items are anomalous: the posterior of their share, from several detectors' scores (S145)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource, ModelRefused
from offnominal.core.seeds import generator
from offnominal.core.threads import blas_threads
from offnominal.decide.inputs import Floats, Labels, check_rate, check_scores, is_number
from offnominal.decide.mixture import Mixture, fit_mixture, starting_shares
from offnominal.decide.thresholds import Threshold, with_share_above

_SHIFT = 0.01  # added before the logarithm of scores
_HELD = 1.0  # fewest expected points of a component that counts
_LOOKS = 1_000  # draws of each component's parameters
_TRIES = 10


@dataclass(frozen=True)
class ContaminationPosterior:
    """What is known of the share of anomalous items.

    Attributes
    ----------
    samples : (draws,) float64
        Of the posterior, ascending, in [0, 1).
    weight : (k,) float64
        Expected share of the items of each component of the mixture, the most anomalous component first.
    rank : (k,) float64
        By what they are ordered: mean over detectors of the expected mean / (1 + deviation).
    probability : (k,) float64
        That exactly the first 1, 2, … k components are anomalous; with ``p_none`` they add up to 1.
    solved : bool
        Whether the two prior constraints could be met. Where not (the most anomalous component is larger than
        anomalies are believed to be), nothing speaks for anomalies, and all samples are 0.
    """

    samples: Floats
    weight: Floats
    rank: Floats
    probability: Floats
    solved: bool

    @property
    def mean(self) -> float:
        """Posterior mean of the share of anomalous items."""
        return float(self.samples.mean())

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Central interval that holds the share with a probability."""
        check_rate(level, "level")
        low, high = np.quantile(self.samples, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def decision(self, level: float = 0.9) -> EstimatedContamination:
        """Make the decision that flags this share of the scores it is then fitted on."""
        return EstimatedContamination(self.mean, list(self.interval(level)), level)


def contamination_posterior(
    scores: npt.ArrayLike,
    *,
    p_none: float = 0.01,
    high: float = 0.15,
    p_high: float = 0.01,
    limit: float = 0.25,
    components: int = 100,
    concentration: float = 0.01,
    whole_prior: bool = False,
    draws: int = 10_000,
    seed: int = 0,
) -> ContaminationPosterior:
    """Posterior of the share of anomalous items, from scores without labels.

    Parameters
    ----------
    scores : (n,) or (n, m) array
        Of m detectors on the same items, higher = more anomalous; the more the detectors differ, the better.
        Detectors that score all alike are left out.
    p_none : float, default 0.01
        Prior probability that there is no anomaly.
    high, p_high : float, default 0.15 and 0.01
        Prior probability ``p_high`` that the share is above ``high``.
    limit : float, default 0.25
        The share is below it.
    components : int, default 100
        Of the mixture, at most; never more than n − 1.
    concentration : float, default 0.01
        Of the Dirichlet process.
    whole_prior : bool, default False
        Whether each component's weight has a prior count of 1, those of empty components spread over the
        others, as in the authors' code; else weights follow their points alone.
    draws : int, default 10000
        Samples of the posterior.
    seed : int, default 0

    Returns
    -------
    ContaminationPosterior

    Raises
    ------
    BadSource, BadItems
        Scores are too few, not finite, or all alike.

    Notes
    -----
    Scores become log(s − min + 0.01), then z-scores. A Dirichlet-process Gaussian mixture is fitted to them;
    components with less than one expected point are dropped. The others are ordered by r, the mean over
    detectors of E[μ / (1 + σ)]; given that the first k − 1 are anomalous, the k-th is with probability
    1 / (1 + exp(τ + δ·r)). δ and τ follow from the two prior constraints. A sample draws the parameters of
    the components, the number k of anomalous ones and the weights, whose first k add up to the share.

    It differs from the authors' code in three ways: the components' parameters are drawn from their
    Gaussian–Wishart posterior (there means and covariances come apart); the share of samples without any
    anomaly is ``p_none`` up to rounding; and given the components, the weights follow the posterior of the
    Dirichlet process, a Dirichlet law of their points. The authors add one count a component, and spread
    those of up to 100 empty ones, which lifts small shares (``whole_prior``).

    On simulated mixtures that follow its rule the 90 % interval holds the share in some 80 to 85 % of cases
    (docs/benchmarks/contamination.md), perhaps because the prior rests on the fitted components, whose errors
    are not counted. Read it as a lower bound of what is uncertain.

    One fit costs O(n·m²·components) a round, of which there may be hundreds: seconds for 1 000 items.

    References
    ----------
    Perini, Bürkner and Klami, Estimating the contamination factor's distribution in unsupervised anomaly
    detection, ICML 2023.
    """
    for value, name in ((p_none, "p_none"), (high, "high"), (p_high, "p_high"), (limit, "limit")):
        check_rate(value, name)
    rows = normalised(scores)
    n = len(rows)
    with blas_threads(1):  # matrices are small: threads would wait for each other
        for attempt in range(_TRIES):
            random = generator(seed, "contamination", str(attempt))
            start = starting_shares(rows, min(components, n - 1), random)
            mixture = fit_mixture(rows, start, concentration=concentration)
            found = _posterior(
                mixture, random, p_none, high, p_high, limit, whole_prior, draws, n, len(start[0])
            )
            if found.solved:
                break
    return found


def normalised(scores: npt.ArrayLike) -> Floats:
    """Scores (n, m) as log(s − min + 0.01), then z-scores; detectors that score all alike are left out."""
    given = np.asarray(scores, dtype=np.float64)
    matrix = given[:, None] if given.ndim == 1 else given
    if matrix.ndim != 2:
        raise BadSource(f"scores are (n,) or (n, m), got shape {given.shape}")
    columns = [check_scores(matrix[:, at]) for at in range(matrix.shape[1])]
    if len(matrix) < 20:
        raise BadSource(f"a share of anomalies needs at least 20 scores to be told from, got {len(matrix)}")
    logs = [np.log(column - column.min() + _SHIFT) for column in columns]
    kept = [(column - column.mean()) / column.std() for column in logs if column.std() > 1e-12]
    if not kept:
        raise BadSource("all scores are alike: they do not tell anomalies from others")
    return np.stack(kept, axis=1)


def _posterior(
    mixture: Mixture,
    random: np.random.Generator,
    p_none: float,
    high: float,
    p_high: float,
    limit: float,
    whole_prior: bool,
    draws: int,
    n: int,
    components: int,
) -> ContaminationPosterior:
    held = np.flatnonzero(mixture.points >= _HELD)
    looks = _looks(mixture, held, random)
    order = np.argsort(-looks.mean(axis=0), kind="stable")
    looks = looks[:, order]
    rank = looks.mean(axis=0)
    # given the components, the weights of a Dirichlet process follow a Dirichlet law of their points; the
    # code of the paper has one count more for each component, those of empty ones spread over the others
    alpha = mixture.points[held][order]
    lost = max(n - alpha.sum(), 0.0)
    if whole_prior:
        alpha, lost = alpha + 1, lost + max(0, components - len(held))
    alpha = alpha + lost / len(held)
    weight = alpha / alpha.sum()
    solution = solve(rank, alpha, p_none, high, p_high)
    if solution is None:
        return ContaminationPosterior(np.zeros(draws), weight, rank, np.zeros(len(rank)), False)
    exactly = np.stack([first_anomalous(look, *solution) for look in looks])
    probability = exactly / exactly.sum(axis=1, keepdims=True) * (1 - p_none)
    # a number of anomalous components for each sample, from the probabilities of one look at the parameters
    chances = np.cumsum(probability[np.arange(draws) % len(looks)], axis=1)
    first = (random.random(draws)[:, None] * chances[:, -1:] < chances).argmax(axis=1)
    shares = np.cumsum(random.dirichlet(alpha, size=draws), axis=1)[np.arange(draws), first]
    shares[: round(p_none * draws)] = 0.0
    allowed = shares[shares < limit]
    missing = draws - len(allowed)
    if missing and not (allowed > 0).any():
        return ContaminationPosterior(np.zeros(draws), weight, rank, probability.mean(axis=0), False)
    if missing:
        allowed = np.concatenate([allowed, random.choice(allowed[allowed > 0], missing)])
    return ContaminationPosterior(np.sort(allowed), weight, rank, probability.mean(axis=0), True)


def _looks(mixture: Mixture, held: npt.NDArray[np.intp], random: np.random.Generator) -> Floats:
    """Draws (looks, k) of each component's mean over detectors of μ / (1 + σ)."""
    from scipy.stats import invwishart

    m = mixture.mean.shape[1]
    found = np.empty((_LOOKS, len(held)))
    for place, at in enumerate(held):
        freedom = mixture.freedom[at]
        drawn = invwishart.rvs(freedom, freedom * mixture.covariance[at], size=_LOOKS, random_state=random)
        covariances = np.asarray(drawn, dtype=np.float64).reshape(_LOOKS, m, m)
        triangles = np.linalg.cholesky(covariances)
        noise = random.normal(size=(_LOOKS, m, 1))
        means = mixture.mean[at] + (triangles @ noise)[..., 0] / math.sqrt(mixture.scaling[at])
        deviations = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
        found[:, place] = (means / (1 + deviations)).mean(axis=1)
    return found


def first_anomalous(rank: Floats, delta: float, tau: float) -> Floats:
    """Probability (k,) that exactly the first 1, 2, … k components are anomalous."""
    each = 1 / (1 + np.exp(np.clip(tau + delta * rank, -700, 700)))
    found: Floats = np.cumprod(each) * np.append(1 - each[1:], 1.0)
    return found


def solve(
    rank: Floats, alpha: Floats, p_none: float, high: float, p_high: float
) -> tuple[float, float] | None:
    """δ and τ for which both prior constraints hold; None where there are none.

    Parameters
    ----------
    rank, alpha : (k,) float64
        Of the components in order, and the parameters of their Dirichlet weights.
    p_none, high, p_high : float
        P(no component is anomalous) = p_none and P(share > high) = p_high.
    """
    from scipy.optimize import brentq
    from scipy.special import betainc

    first = np.cumsum(alpha)
    rest = alpha.sum() - first
    above = np.ones(len(alpha))
    above[:-1] = 1 - betainc(first[:-1], rest[:-1], high)
    intercept = math.log(p_none / (1 - p_none))

    def excess(delta: float) -> float:
        tau = intercept - delta * rank[0]  # the first constraint holds for every δ
        return float(above @ first_anomalous(rank, delta, tau)) - p_high

    # δ ≤ 0: a component of lower rank is less likely anomalous, the faster so the lower δ
    slopes = -np.concatenate([[0.0], np.geomspace(1e-3, 50 / max(rank[0] - rank.min(), 1e-9), 200)])
    values = np.array([excess(delta) for delta in slopes])
    crossings = np.flatnonzero((values[:-1] > 0) & (values[1:] <= 0))
    if not len(crossings):
        return None
    at = crossings[0]
    delta = float(brentq(excess, slopes[at + 1], slopes[at]))
    return delta, intercept - delta * float(rank[0])


class EstimatedContamination(Threshold):
    """Threshold that flags as large a share of the fitted scores as is estimated to be anomalous.

    Fit it on scores of a mixture of normal and anomalous items. By default the share is estimated from these
    scores alone; from those of several detectors `contamination_posterior` tells it better, and makes the
    decision: ``contamination_posterior(matrix).decision()``.

    Parameters
    ----------
    fraction : float, optional
        Share of anomalous items, in [0, 1); estimated where it is not given.
    interval : list of two floats, optional
        Which the share lies in with probability ``level``; estimated with the fraction.
    level : float, default 0.9
    seed : int, default 0
        Of the estimation.

    Notes
    -----
    This sets how many are flagged, not how many of the normal ones: it is no false-alarm rate. `report` shows
    the interval, and the thresholds at its ends.
    """

    name: ClassVar[str] = "estimated_contamination"
    unlabelled_are_normal: ClassVar[bool] = False

    def __init__(
        self,
        fraction: float | None = None,
        interval: Sequence[float] | None = None,
        level: float = 0.9,
        seed: int = 0,
    ) -> None:
        check_rate(level, "level")
        if (fraction is None) != (interval is None):
            raise ValueError("fraction and interval are given together, or neither")
        if fraction is not None and interval is not None:
            low, up = interval
            if (
                not all(map(is_number, (fraction, low, up)))
                or not 0 <= low <= up < 1
                or not 0 <= fraction < 1
            ):
                raise ValueError(f"shares must lie in [0, 1), got {fraction!r} in {interval!r}")
        self.fraction = fraction
        self.interval = interval
        self.level = level
        self.seed = seed
        self._estimate: dict[str, Any] | None = None

    def _choose(self, scores: Floats, labels: Labels | None) -> float:
        fraction, note = self.fraction, None
        interval = None if self.interval is None else list(self.interval)
        if fraction is None or interval is None:
            found = contamination_posterior(scores, seed=self.seed)
            fraction, interval = found.mean, list(found.interval(self.level))
            if not found.solved:
                note = (
                    "the scores fall into no groups that could be a small share of anomalies; none is taken"
                )
        if not len(scores):
            raise BadSource("estimated_contamination needs at least one score, got none")
        self._estimate = {
            "fraction": fraction,
            "interval": interval,
            # the larger the share, the lower the threshold
            "thresholds": [with_share_above(scores, share) for share in interval[::-1]],
            "note": note,
        }
        return with_share_above(scores, fraction)

    def report(self) -> dict[str, Any]:
        """Describe the decision; see `Decision.report`. Adds ``fraction``, ``interval``, ``thresholds``."""
        return super().report() | (self._estimate or {})

    def state(self) -> dict[str, Any]:
        """Threshold, tally and estimate, JSON only."""
        known = super().state()
        return known | {"estimate": self._estimate} if known else known

    @classmethod
    def restore(cls, params: Mapping[str, Any], state: Mapping[str, Any]) -> Self:
        """Make the decision again; see `Decision.restore`."""
        made = super().restore(params, state)
        if not state:
            return made
        estimate = state.get("estimate")
        keys = {"fraction", "interval", "thresholds", "note"}
        if not isinstance(estimate, dict) or set(estimate) != keys:
            raise ModelRefused(f"the stored {cls.name} decision is damaged: its estimate is missing")
        numbers = [estimate["fraction"], *estimate["interval"], *estimate["thresholds"]]
        if len(numbers) != 5 or not all(map(is_number, numbers)):
            raise ModelRefused(f"the stored {cls.name} decision is damaged: its estimate holds no numbers")
        made._estimate = dict(estimate)
        return made
