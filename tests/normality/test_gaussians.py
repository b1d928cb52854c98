"""Gaussians learned from a stream equal those learned at once, and the reference estimators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis

from offnominal.normality import PositionGaussians, ShrunkGaussian


def skewed(n, width, seed=0, away=20.0):
    draw = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((width, width)) / width
    return (draw.gamma(2, 1, (n, width)) @ mixing + away).astype(np.float32)


@pytest.mark.parametrize(("n", "width"), [(30, 50), (400, 20), (5000, 8), (2, 3)])
def test_covariance_equals_scikit_learn(n, width):
    covariance = pytest.importorskip("sklearn.covariance")
    rows = skewed(n, width)
    for name, estimator in {"ledoit-wolf": covariance.LedoitWolf, "oas": covariance.OAS}.items():
        gaussian = ShrunkGaussian(width, shrinkage=name)
        for first in range(0, n, 7):
            gaussian.absorb(rows[first : first + 7])
        want = estimator().fit(rows.astype(np.float64))
        assert gaussian.weight == pytest.approx(want.shrinkage_, rel=1e-6)
        np.testing.assert_allclose(gaussian.covariance, want.covariance_, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            gaussian.mahalanobis(rows) ** 2, want.mahalanobis(rows.astype(np.float64)), rtol=1e-5
        )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 6), st.floats(-100, 100))
def test_any_cut_and_merge_gives_the_same_moments(sizes, width, away):
    parts = [skewed(size, width, seed, away) for seed, size in enumerate(sizes)]
    rows = np.concatenate(parts).astype(np.float64)
    merged = ShrunkGaussian(width)
    for part in parts:
        merged.merge(ShrunkGaussian(width).absorb(part))
    assert merged.count == len(rows)
    if not len(rows):
        return
    centred = rows - rows.mean(axis=0)
    squared = (centred**2).sum(axis=1)
    moments = merged.moments
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(moments.scatter, centred.T @ centred, atol=1e-8 * (1 + squared.sum()))
    np.testing.assert_allclose(moments.third, squared @ centred, atol=1e-8 * (1 + squared.sum() ** 1.5))
    assert moments.fourth == pytest.approx(squared @ squared, rel=1e-7, abs=1e-8)


def test_distance_by_definition():
    rows, queries = skewed(300, 12), skewed(20, 12, seed=1)
    gaussian = ShrunkGaussian(12).absorb(rows)
    inverse = np.linalg.inv(gaussian.covariance)
    want = [mahalanobis(query, gaussian.mean, inverse) for query in queries.astype(np.float64)]
    np.testing.assert_allclose(gaussian.mahalanobis(queries), want, rtol=1e-7)
    np.testing.assert_allclose(gaussian.precision, inverse, rtol=1e-6, atol=1e-6 * np.abs(inverse).max())
    np.testing.assert_allclose(
        gaussian.mahalanobis(queries[3:4]), gaussian.mahalanobis(queries)[3:4], rtol=1e-12
    )
    assert gaussian.dimensions == 12


def test_dropping_leading_components_keeps_those_of_least_variance():
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((4000, 5)) * [10, 3, 1, 0.5, 0.1]
    gaussian = ShrunkGaussian(5, drop_variance=0.95).absorb(rows)  # the first explains 0.91, the two 0.99
    assert gaussian.dimensions == 4
    far = gaussian.mahalanobis(np.array([[1000, 0, 0, 0, 0], [0, 0, 0, 0, 1.0]]))
    assert far[0] < 0.1 * 1000 / 10
    assert far[1] > 2
    assert ShrunkGaussian(5, drop_variance=0.995).absorb(rows).dimensions == 3


def test_constant_rows_are_no_trouble():
    gaussian = ShrunkGaussian(3).absorb(np.full((10, 3), 4.0, np.float32))
    distances = gaussian.mahalanobis(np.array([[4, 4, 4], [4, 4, 5.0]]))
    assert distances[0] == 0
    assert np.isfinite(distances[1])
    assert distances[1] > 100


@pytest.mark.parametrize("shrinkage", ["ledoit-wolf", "oas"])
def test_gaussian_state_round_trip(shrinkage):
    rows = skewed(60, 6)
    gaussian = ShrunkGaussian(6, shrinkage=shrinkage, drop_variance=0.5).absorb(rows[:40])
    again = ShrunkGaussian.restore(gaussian.state())
    np.testing.assert_array_equal(
        gaussian.absorb(rows[40:]).mahalanobis(rows), again.absorb(rows[40:]).mahalanobis(rows)
    )


def test_gaussian_refusals():
    gaussian = ShrunkGaussian(3)
    with pytest.raises(ValueError, match="two rows"):
        gaussian.absorb(np.ones((1, 3))).mahalanobis(np.ones((1, 3)))
    with pytest.raises(ValueError, match="shape"):
        gaussian.absorb(np.ones((2, 4)))
    with pytest.raises(ValueError, match="finite"):
        gaussian.absorb(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="widths differ"):
        gaussian.merge(ShrunkGaussian(4))
    with pytest.raises(ValueError, match="shrinkage"):
        ShrunkGaussian(3, shrinkage="none")


def test_positions_equal_a_gaussian_each():
    draw = np.random.default_rng(0)
    rows = np.einsum("npi,pij->npj", draw.standard_normal((50, 9, 6)), draw.standard_normal((9, 6, 6))) + 3
    grids = PositionGaussians(9, 6).absorb(rows[:20]).merge(PositionGaussians(9, 6).absorb(rows[20:]))
    queries = draw.standard_normal((4, 9, 6)) * 3
    got = grids.mahalanobis(queries)
    for position in range(9):
        inverse = np.linalg.inv(np.cov(rows[:, position].T) + 0.01 * np.eye(6))
        centre = rows[:, position].mean(axis=0)
        want = [mahalanobis(query, centre, inverse) for query in queries[:, position]]
        np.testing.assert_allclose(got[:, position], want, rtol=1e-4)
    np.testing.assert_array_equal(grids.mahalanobis(queries[2:3]), got[2:3])


def test_positions_state_round_trip_and_refusals():
    rows = np.random.default_rng(0).standard_normal((8, 4, 3)).astype(np.float32)
    grids = PositionGaussians(4, 3, regularisation=0.1).absorb(rows)
    np.testing.assert_array_equal(
        PositionGaussians.restore(grids.state()).mahalanobis(rows), grids.mahalanobis(rows)
    )
    with pytest.raises(ValueError, match="shape"):
        grids.absorb(rows[:, :3])
    with pytest.raises(ValueError, match="two grids"):
        PositionGaussians(4, 3).mahalanobis(rows)
