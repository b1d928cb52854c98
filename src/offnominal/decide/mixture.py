"""A Gaussian mixture whose number of components is found: variational Bayes under a Dirichlet process."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offnominal.decide.inputs import Floats

_RIDGE = 1e-6  # added to the variance of each component, as large as rounding of z-scores may make it
_TINY = 1e-8  # components with fewer points are as before they saw any, and share one density


@dataclass(frozen=True)
class Mixture:
    """Posterior of the components that hold points.

    Attributes
    ----------
    points : (k,) float64
        Expected number of points of each, summing to n up to what empty components hold.
    mean : (k, m) float64
        Expected mean.
    scaling : (k,) float64
        How much surer the mean is than one point: covariance of the mean = covariance / scaling.
    covariance : (k, m, m) float64
        Inverse of the expected precision.
    freedom : (k,) float64
        Degrees of freedom of the Wishart law of the precision.
    bound : float
        Evidence bound, up to what depends on the rows and the prior only.
    converged : bool
    """

    points: Floats
    mean: Floats
    scaling: Floats
    covariance: Floats
    freedom: Floats
    bound: float
    converged: bool


def fit_mixture(
    rows: Floats,
    shares: Floats,
    *,
    concentration: float = 0.01,
    rounds: int = 1_500,
    tolerance: float = 1e-3,
) -> Mixture:
    """Fit the mixture by coordinate ascent on the evidence bound.

    Parameters
    ----------
    rows : (n, m) float64
    shares : (n, k) float64
        Where to start from: share of each row that each component gets, rows summing to 1.
    concentration : float, default 0.01
        Of the Dirichlet process: low favours few components.
    rounds : int, default 1500
        At most.
    tolerance : float, default 0.001
        Rounds end where the evidence bound grows by less.

    Notes
    -----
    Stick-breaking weights; each component has a Gaussian–Wishart prior with the mean and covariance of all
    rows, one point's worth of mean and m degrees of freedom.

    Source: Blei and Jordan, Variational inference for Dirichlet process mixtures, Bayesian Analysis, 2006.
    Bishop, Pattern Recognition and Machine Learning, 2006, section 10.2.
    """
    n, m = rows.shape
    prior_mean = rows.mean(axis=0)
    prior_covariance = np.atleast_2d(np.cov(rows.T)) if n > 1 else np.eye(m)
    before, bound, converged = -math.inf, -math.inf, False
    for _ in range(rounds):
        points = shares.sum(axis=0) + 10 * np.finfo(np.float64).eps
        used = points > _TINY
        some = shares[:, used]
        centre = some.T @ rows / points[used, None]
        scaling = 1 + points
        freedom = m + points
        mean = np.repeat(prior_mean[None], len(points), axis=0)
        mean[used] = (prior_mean + points[used, None] * centre) / scaling[used, None]
        covariance = np.repeat((prior_covariance / m)[None], len(points), axis=0)
        covariance[used] = _covariances(rows, some, points[used], centre, prior_mean, prior_covariance)
        triangles = np.linalg.cholesky(covariance)
        log_volume = np.log(np.diagonal(triangles, axis1=1, axis2=2)).sum(axis=1)
        # the weights: each breaks a share off what those before it left
        taken, left = 1 + points, concentration + np.append(np.cumsum(points[::-1])[-2::-1], 0.0)
        both = _digamma(taken + left)
        log_left = _digamma(left) - both
        log_weight = _digamma(taken) - both + np.append(0.0, np.cumsum(log_left)[:-1])
        entropy = _digamma((freedom[:, None] - np.arange(m)) / 2).sum(axis=1)
        constant = (
            log_weight
            - log_volume
            + (entropy + m * math.log(2) - m / scaling - m * math.log(2 * math.pi) - m * np.log(freedom)) / 2
        )
        log_density = np.empty((n, len(points)))
        one_empty = np.flatnonzero(~used)[:1]
        for part in (np.flatnonzero(used), one_empty):
            log_density[:, part] = -_squared_distances(rows, mean[part], triangles[part]) / 2
        if len(one_empty):
            log_density[:, ~used] = log_density[:, one_empty]
        log_joint = log_density + constant
        top = log_joint.max(axis=1, keepdims=True)
        log_shares = log_joint - top - np.log(np.exp(log_joint - top).sum(axis=1, keepdims=True))
        shares = np.exp(log_shares)
        bound = (
            -float((shares * log_shares).sum())
            - float(_log_wishart_norm(freedom, log_volume, m).sum())
            - float(-_log_beta(taken, left).sum())
            - 0.5 * m * float(np.log(scaling).sum())
        )
        if abs(bound - before) < tolerance:
            converged = True
            break
        before = bound
    held = np.flatnonzero(used)
    return Mixture(points[held], mean[held], scaling[held], covariance[held], freedom[held], bound, converged)


def _covariances(
    rows: Floats,
    shares: Floats,
    points: Floats,
    centre: Floats,
    prior_mean: Floats,
    prior_covariance: Floats,
) -> Floats:
    """Inverse of the expected precision of each component (k, m, m)."""
    m = rows.shape[1]
    found = np.empty((len(points), m, m))
    for at in range(len(points)):
        apart = rows - centre[at]
        spread = (shares[:, at] * apart.T) @ apart / points[at]
        spread[np.diag_indices(m)] += _RIDGE
        off = centre[at] - prior_mean
        pull = points[at] / (1 + points[at])
        found[at] = prior_covariance + points[at] * spread + pull * np.outer(off, off)
        found[at] /= m + points[at]
    return found


def _squared_distances(rows: Floats, means: Floats, triangles: Floats) -> Floats:
    """Mahalanobis distances, squared (n, k)."""
    from scipy.linalg import solve_triangular

    found = np.empty((len(rows), len(means)))
    for at, (mean, triangle) in enumerate(zip(means, triangles, strict=True)):
        found[:, at] = (solve_triangular(triangle, (rows - mean).T, lower=True) ** 2).sum(axis=0)
    return found


def _log_wishart_norm(freedom: Floats, log_volume: Floats, m: int) -> Floats:
    from scipy.special import gammaln

    # log_volume is of the covariance's factor; the precision's is its negative, times sqrt(freedom)
    precision = -log_volume - 0.5 * m * np.log(freedom)
    found: Floats = -(
        freedom * precision
        + freedom * m * 0.5 * math.log(2)
        + gammaln(0.5 * (freedom[:, None] - np.arange(m))).sum(axis=1)
    )
    return found


def _log_beta(a: Floats, b: Floats) -> Floats:
    from scipy.special import betaln

    found: Floats = betaln(a, b)
    return found


def _digamma(x: npt.NDArray[np.float64]) -> Floats:
    from scipy.special import digamma

    found: Floats = digamma(x)
    return found


def starting_shares(rows: Floats, components: int, random: np.random.Generator) -> Floats:
    """Shares (n, k) to start from: each row belongs to the nearest of k centres (k-means, ten rounds)."""
    n = len(rows)
    centres = rows[[int(random.integers(n))]]
    nearest = ((rows - centres[0]) ** 2).sum(axis=1)
    for _ in range(1, components):
        total = nearest.sum()
        at = int(random.choice(n, p=nearest / total)) if total > 0 else int(random.integers(n))
        centres = np.concatenate([centres, rows[[at]]])
        nearest = np.minimum(nearest, ((rows - rows[at]) ** 2).sum(axis=1))
    squares = (rows**2).sum(axis=1)
    for _ in range(10):
        owner = (squares[:, None] - 2 * rows @ centres.T + (centres**2).sum(axis=1)).argmin(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, owner, rows)
        counts = np.bincount(owner, minlength=components)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    shares = np.zeros((n, components))
    shares[np.arange(n), owner] = 1
    return shares
