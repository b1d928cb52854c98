"""Lloyd's k-means, seeded by k-means++."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_FITTED = 20_000  # rows on which centres are found; more hardly move them


def squared_distances(rows: Matrix, centres: Matrix) -> Matrix:
    """Squared Euclidean distances (n, k), by differences: exact where they are small."""
    found = np.empty((len(rows), len(centres)))
    for place, centre in enumerate(centres):
        apart = rows - centre
        found[:, place] = np.einsum("ij,ij->i", apart, apart)
    return found


def kmeans(
    rows: Matrix,
    clusters: int,
    random: np.random.Generator,
    rounds: int = 30,
    start: Matrix | None = None,
) -> Matrix:
    """Find cluster centres.

    Parameters
    ----------
    rows : ndarray (n, d)
    clusters : int
        At most; fewer where there are fewer different rows.
    random : numpy Generator
    rounds : int
        Lloyd steps, at most.
    start : ndarray (k, d), optional
        Centres to begin with, in place of seeding.

    Returns
    -------
    ndarray (k, d)

    Notes
    -----
    Source: Arthur & Vassilvitskii, SODA 2007 (seeding).
    """
    if len(rows) > _FITTED:
        rows = rows[np.sort(random.choice(len(rows), _FITTED, replace=False))]
    centres = _seeded(rows, clusters, random) if start is None else start
    owner = np.full(len(rows), -1)
    for _ in range(rounds):
        again = squared_distances(rows, centres).argmin(axis=1)
        if (again == owner).all():
            break
        owner = again
        means = [
            rows[owner == place].mean(axis=0) if (owner == place).any() else centre
            for place, centre in enumerate(centres)
        ]
        centres = np.stack(means)
    found: Matrix = centres
    return found


def _seeded(rows: Matrix, clusters: int, random: np.random.Generator) -> Matrix:
    centres = rows[random.integers(len(rows))][None]
    nearest = squared_distances(rows, centres)[:, 0]
    while len(centres) < clusters and nearest.sum() > 0:
        chosen = rows[random.choice(len(rows), p=nearest / nearest.sum())][None]
        centres = np.concatenate([centres, chosen])
        nearest = np.minimum(nearest, squared_distances(rows, chosen)[:, 0])
    found: Matrix = centres
    return found
