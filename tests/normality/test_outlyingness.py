"""Outlyingness in random directions against a plain loop, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.normality.outlyingness import ProjectionOutlyingness, unit_directions


def test_directions_are_unit_uniform_and_seeded() -> None:
    directions = unit_directions(5, 4_000, seed=3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1)
    np.testing.assert_allclose(directions @ directions.T / 4_000, np.eye(5) / 5, atol=0.02)
    np.testing.assert_array_equal(directions, unit_directions(5, 4_000, seed=3))
    assert not np.array_equal(directions, unit_directions(5, 4_000, seed=4))
    with pytest.raises(ValueError, match="positive"):
        unit_directions(0, 3)


@given(seed=st.integers(0, 50), n=st.integers(2, 30), k=st.integers(1, 150))
@settings(max_examples=25, deadline=None)
def test_is_the_plain_loop(seed: int, n: int, k: int) -> None:
    random = np.random.default_rng(seed)
    rows, test = random.normal(size=(n, 4)), random.normal(size=(3, 4))
    directions = unit_directions(4, k, seed=seed)
    found = ProjectionOutlyingness.of(rows, directions)(test)
    for place in range(k):
        values = [float(row @ directions[:, place]) for row in rows]
        middle = np.median(values)
        spread = np.median([abs(value - middle) for value in values])
        wanted = [(row @ directions[:, place] - middle) / spread for row in test]
        np.testing.assert_allclose(found[:, place], wanted, rtol=1e-8, atol=1e-8)


def test_rows_that_coincide_have_a_unit_all_the_same() -> None:
    directions = unit_directions(3, 20)
    same = np.tile([3.0, -2.0, 7.0], (9, 1))
    np.testing.assert_allclose(ProjectionOutlyingness.of(same, directions)(same), 0, atol=1e-9)
    mostly = np.concatenate([same, [[4.0, -2.0, 7.0]]])
    found = ProjectionOutlyingness.of(mostly, directions)
    assert (found.spreads > 0).all()
    assert (found.spreads < 0.2).all()


def test_largest_is_constant_on_ellipses() -> None:
    """Over many directions the supremum tends to the Mahalanobis distance, over .6745."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(6_000, 2)) @ np.array([[3.0, 0], [1, 0.4]])
    angles = np.linspace(0, 2 * np.pi, 25)
    circle = 4 * np.stack([np.cos(angles), np.sin(angles)], 1) @ np.array([[3.0, 0], [1, 0.4]])
    found = np.abs(ProjectionOutlyingness.of(rows, unit_directions(2, 1_000))(circle)).max(axis=1)
    np.testing.assert_allclose(found, 4 / 0.6745, rtol=0.05)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="fit together"):
        ProjectionOutlyingness(np.ones((3, 4)), np.zeros(3), np.ones(3))
