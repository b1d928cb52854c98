"""Auxiliary anomalies are rated: realistic ones high, unrealistic at the prior, normal-looking ones low."""

from __future__ import annotations

import numpy as np
import pytest

from offnominal.audit.expected_posterior import (
    densities,
    enough_neighbours,
    expected_posterior,
    kernel_classifier,
)
from offnominal.core.errors import BadItems, BadSource


def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    normals = np.concatenate([random.normal(size=(150, 2)), random.normal(size=(20, 2)) * 0.8 + (4, 0)])
    anomalies = random.normal(size=(12, 2)) * 0.3 + (2.6, 2.6)
    return normals, anomalies, random.normal(size=(20, 2))


def test_realistic_ones_rank_above_unrealistic_above_normal_looking() -> None:
    normals, anomalies, more = world()
    realistic, unrealistic = 0.3 * more + (2.6, 2.6), more + np.array([60, 60])
    rated = expected_posterior(
        np.concatenate([realistic, unrealistic, more]), normals, anomalies[:6], subsets=40
    )
    high, prior, low = np.split(rated, 3)
    share = 6 / (len(normals) + 6)
    np.testing.assert_allclose(prior, share, rtol=1e-6)
    assert np.median(high) > 2 * share
    assert np.median(low) < share
    assert ((rated >= 0) & (rated <= 1)).all()


def test_without_density_unrealistic_ones_fool_the_rating() -> None:
    normals, anomalies, more = world()

    def far_is_anomalous(rows: np.ndarray, labels: np.ndarray) -> object:
        return lambda of: np.clip(np.linalg.norm(of, axis=1) / 10, 0, 1)

    arguments = (more + 60, normals, anomalies[:6])
    rated = expected_posterior(*arguments, learn=far_is_anomalous, subsets=10)  # type: ignore[arg-type]
    fooled = expected_posterior(*arguments, learn=far_is_anomalous, subsets=10, density=False)  # type: ignore[arg-type]
    assert rated.max() < 0.05
    assert fooled.min() > 0.5


def test_density_is_the_inverse_radius_of_the_smallest_ball() -> None:
    random = np.random.default_rng(3)
    normals, bad, asked = (
        random.normal(size=(30, 2)),
        random.normal(size=(3, 2)),
        random.normal(size=(8, 2)) * 2,
    )
    among, to_bad, to_asked = (
        np.linalg.norm(part[:, None] - normals, axis=2) for part in (normals, bad, asked)
    )
    k = enough_neighbours(among, to_bad, 5)
    radius = [sorted(among[j])[k] for j in range(30)]

    def inverse(distances: np.ndarray) -> float:
        inside = [radius[j] for j in range(30) if distances[j] <= radius[j]]
        return 1 / min(inside) if inside else 0.0

    total = sum(inverse(row) for row in among)
    expected = [inverse(row) / (inverse(row) + total) for row in to_asked]
    np.testing.assert_allclose(densities(among, to_bad, to_asked, 5), expected, atol=1e-12)


def test_balls_reach_further_where_anomalies_lie_further() -> None:
    normals, anomalies, _ = world()
    among = np.linalg.norm(normals[:, None] - normals, axis=2)
    near, far = (
        enough_neighbours(among, np.linalg.norm(part[:, None] - normals, axis=2), 5)
        for part in (normals[:12] + 0.01, anomalies + 30)
    )
    assert 5 <= near < far <= len(normals) - 1
    assert enough_neighbours(among[:6, :6], among[:2, :6], 5) == 5


def test_default_classifier_tells_what_is_not_linear() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(400, 2))
    labels = (np.linalg.norm(rows, axis=1) > 1.5).astype(np.int64)
    chance = kernel_classifier(rows, labels)
    fresh = random.normal(size=(400, 2))
    truth = np.linalg.norm(fresh, axis=1) > 1.5
    assert ((chance(fresh) > 0.5) == truth).mean() > 0.93


def test_the_same_seed_gives_the_same_ratings() -> None:
    normals, anomalies, more = world()
    one, two = (expected_posterior(more, normals, anomalies, subsets=5, seed=2) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_what_cannot_be_rated_is_refused() -> None:
    normals, anomalies, more = world()
    with pytest.raises(BadSource, match="too few"):
        expected_posterior(more, normals[:8], anomalies)
    with pytest.raises(BadSource, match="too few"):
        expected_posterior(more, normals, anomalies[:0])
    with pytest.raises(BadSource, match="same columns"):
        expected_posterior(more[:, :1], normals, anomalies)
    with pytest.raises(BadItems, match="candidates at 1"):
        expected_posterior([[0, 0], [np.nan, 0]], normals, anomalies)
    with pytest.raises(ValueError, match="contamination"):
        expected_posterior(more, normals, anomalies, contamination=1.0)
