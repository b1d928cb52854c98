"""How good synthetic anomalies are: the expected anomaly posterior (S048)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadItems, BadSource
from offnominal.core.progress import track
from offnominal.core.seeds import generator

Floats = npt.NDArray[np.float64]
Probability = Callable[[Floats], npt.NDArray[np.floating]]
Learn = Callable[[Floats, npt.NDArray[np.int64]], Probability]

_MOST_KEPT = 0.99  # of the training set in a subset
_SURE = 0.95
_CENTRES = 200
_RIDGE = 1e-2


def expected_posterior(
    candidates: npt.ArrayLike,
    normals: npt.ArrayLike,
    anomalies: npt.ArrayLike,
    *,
    learn: Learn | None = None,
    subsets: int = 100,
    neighbours: int = 5,
    contamination: float | None = None,
    density: bool = True,
    seed: int = 0,
) -> Floats:
    """Rate auxiliary anomalies: expected probability that each is a realistic anomaly.

    Parameters
    ----------
    candidates : (m, d) array
        Auxiliary anomalies, of any generator: rows of a table, or embeddings of images.
    normals : (n, d) array
        Normal items.
    anomalies : (a, d) array
        A few real anomalies, at least one.
    learn : callable, optional
        ``learn(rows, labels)`` fits a detector on rows and their labels (0 normal, 1 anomalous, both there)
        and returns a function that gives the probability of being anomalous of rows. By default
        `kernel_classifier`.
    subsets : int, default 100
        Random parts of the training set that the expectation is over.
    neighbours : int, default 5
        Fewest that a ball around a normal item reaches.
    contamination : float, optional
        Prior probability of an anomaly, in (0, 1); the share of anomalies given, where it is left out.
    density : bool, default True
        Whether the class probability counts by how dense normal items are around the candidate; else all
        candidates count as if they lay among them (for ablation).
    seed : int, default 0

    Returns
    -------
    (m,) float64
        In [0, 1]. Near the prior: unrealistic, too far from all that is known. Lower: no anomaly, cannot be
        told from normal items. Higher: a realistic anomaly.

    Raises
    ------
    BadSource, BadItems
        Shapes that do not fit together, too few normals, values that are not finite.

    Notes
    -----
    The prior is Beta(1 − γ, γ) at the contamination γ. A subset takes each training item with a chance drawn
    between the least that leaves enough neighbours and 0.99. With n normals in it, P the class probability of
    a detector that was learned on it, and p the density, the posterior is (γ + n·P·p) / (1 + n·p). The
    density
    is the inverse rarity of the candidate over the sum of it and those of the normals; an item's rarity is
    the radius of the smallest ball that holds it, a ball around each normal reaching to its k-th neighbour.
    Outside
    all balls the density is 0. k is at least 5, raised so that with 95 % probability a known anomaly falls
    into a ball.

    Distances are Euclidean, after each column was divided by the normals' deviation.

    References
    ----------
    Perini, Rudolph, Schmedding and Qiu, Uncertainty-aware evaluation of auxiliary anomalies with the expected
    anomaly posterior, TMLR, 2025. Han et al., Rarity score: a new metric to evaluate the uncommonness of
    synthesized images, ICLR 2023.
    """
    good, bad, asked = (
        _rows(part, name)
        for part, name in ((normals, "normals"), (anomalies, "anomalies"), (candidates, "candidates"))
    )
    if len({part.shape[1] for part in (good, bad, asked)}) != 1:
        raise BadSource("normals, anomalies and candidates must have the same columns")
    if len(good) < 2 * (neighbours + 2) or not len(bad):
        least = 2 * (neighbours + 2)
        raise BadSource(f"{len(good)} normals and {len(bad)} anomalies are too few: it takes {least} and 1")
    prior = len(bad) / (len(good) + len(bad)) if contamination is None else contamination
    if not 0 < prior < 1:
        raise ValueError(f"contamination must be between 0 and 1, both excluded, got {prior!r}")
    middle, scale = good.mean(axis=0), good.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    good, bad, asked = ((part - middle) / scale for part in (good, bad, asked))
    learn = learn or kernel_classifier
    among = _distances(good, good)
    to_bad, to_asked = _distances(bad, good), _distances(asked, good)
    everything = len(good) + len(bad)
    lowest = min((neighbours + 2 + len(bad)) / everything, _MOST_KEPT)
    random = generator(seed, "expected posterior")
    total = np.zeros(len(asked))
    for _ in track(range(subsets), total=subsets, label="Rating"):
        share = random.uniform(lowest, _MOST_KEPT)
        kept = np.flatnonzero(random.random(len(good)) < share)
        known = random.random(len(bad)) < share
        if len(kept) < neighbours + 2:
            kept = np.sort(random.choice(len(good), neighbours + 2, replace=False))
        chance = np.zeros(len(asked))
        if known.any():
            rows = np.concatenate([good[kept], bad[known]])
            labels = np.repeat(np.array([0, 1]), [len(kept), int(known.sum())])
            chance = np.clip(np.asarray(learn(rows, labels)(asked), np.float64), 0.0, 1.0)
        n = len(kept)
        weight = np.full(len(asked), 1.0)
        if density:
            weight = n * densities(among[np.ix_(kept, kept)], to_bad[:, kept], to_asked[:, kept], neighbours)
        total += (prior + weight * chance) / (1 + weight)
    return total / subsets


def densities(among: Floats, to_anomalies: Floats, to_candidates: Floats, neighbours: int) -> Floats:
    """Density of normal items at candidates, from the radii of balls that hold them.

    Parameters
    ----------
    among : (n, n) float64
        Distances between normals.
    to_anomalies : (a, n), to_candidates : (m, n) float64
        Distances to normals.
    neighbours : int
        Fewest of a ball.

    Returns
    -------
    (m,) float64
        In [0, 1); 0 outside all balls.
    """
    k = enough_neighbours(among, to_anomalies, neighbours)
    radii = np.sort(among, axis=1)[:, k]  # the first of each row is the item itself
    own = _rarity(among, radii)
    found = _inverse(_rarity(to_candidates, radii))
    total: Floats = found / np.maximum(found + _inverse(own).sum(), 1e-300)
    return total


def enough_neighbours(among: Floats, to_anomalies: Floats, least: int) -> int:
    """Neighbours a ball must reach so that known anomalies fall into balls: 95 % quantile of a beta law."""
    from scipy.stats import beta

    most = len(among) - 1
    if most <= least + 1:
        return most
    ordered = np.sort(among, axis=1)
    # the ball around a normal holds the anomaly once it reaches past every normal that is nearer
    nearer = np.stack(
        [np.searchsorted(row, apart) for row, apart in zip(ordered, to_anomalies.T, strict=True)]
    )
    needed = np.clip(nearer.min(axis=0), least, most)
    shares = (needed - least) / (most - least)
    quantile = beta.ppf(_SURE, 1 + shares.sum(), 1 + len(shares) - shares.sum())
    return int(np.clip(int(quantile * (most - least) + least), least, most))


def _rarity(distances: Floats, radii: Floats) -> Floats:
    """Radius of the smallest ball that holds each item; infinite outside all."""
    found: Floats = np.where(distances <= radii, radii, np.inf).min(axis=1)
    return found


def _inverse(rarity: Floats) -> Floats:
    # a ball of radius 0 holds copies only: as dense as numbers allow
    found: Floats = 1 / np.maximum(rarity, 1e-9)
    return found


def _distances(rows: Floats, others: Floats) -> Floats:
    from scipy.spatial.distance import cdist

    found: Floats = cdist(rows, others)
    return found


def kernel_classifier(rows: Floats, labels: npt.NDArray[np.int64]) -> Probability:
    """Logistic regression on Gaussian kernels around rows; the default detector of `expected_posterior`.

    Parameters
    ----------
    rows : (n, d) float64
    labels : (n,) of {0, 1}, both there

    Returns
    -------
    callable
        Rows (m, d) to the probability (m,) of label 1.

    Notes
    -----
    All anomalies and normals drawn evenly, 200 at most, are centres; the kernel is as wide as the median
    distance between them; weights are penalised lightly and found by Newton's method.
    """
    order = np.argsort(-labels, kind="stable")
    anomalous = int(labels.sum())
    step = max(1, -(-(len(rows) - anomalous) // max(_CENTRES - anomalous, 1)))
    centres = rows[np.concatenate([order[: min(anomalous, _CENTRES)], order[anomalous::step]])]
    apart = _distances(centres, centres)
    width = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0

    def features(of: Floats) -> Floats:
        kernels = np.exp(-((_distances(of, centres) / width) ** 2) / 2)
        return np.concatenate([np.ones((len(of), 1)), kernels], axis=1)

    x, weights = features(rows), np.zeros(len(centres) + 1)
    penalty = np.full(len(weights), _RIDGE)
    penalty[0] = 1e-8  # the intercept is free
    for _ in range(25):
        chance = _logistic(x @ weights)
        gradient = x.T @ (chance - labels) + penalty * weights
        curvature = (x.T * np.maximum(chance * (1 - chance), 1e-9)) @ x + np.diag(penalty)
        move = np.linalg.solve(curvature, gradient)
        weights = weights - move * min(1.0, 5.0 / max(float(np.abs(move).max()), 1e-12))
        if np.abs(move).max() < 1e-6:
            break
    return lambda of: _logistic(features(of) @ weights)


def _logistic(x: Floats) -> Floats:
    found: Floats = 1 / (1 + np.exp(-np.clip(x, -500, 500)))
    return found


def _rows(rows: npt.ArrayLike, name: str) -> Floats:
    given = np.asarray(rows, dtype=np.float64)
    if given.ndim != 2:
        raise BadSource(f"{name} are vectors, shape (n, d), got shape {given.shape}")
    bad = np.flatnonzero(~np.isfinite(given).all(axis=1))
    if len(bad):
        raise BadItems(
            [BadItem(f"{name} at {i}", "holds a value that is not finite", "impute it") for i in bad]
        )
    return given
