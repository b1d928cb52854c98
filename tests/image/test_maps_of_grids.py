from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from offnominal.image.maps import map_from_grid


def _zoomed(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear, half-pixel centres, edges repeated: scipy's own words for it."""
    factors = [target / source for target, source in zip(shape, grid.shape, strict=True)]
    return ndimage.zoom(grid.astype(float), factors, order=1, mode="nearest", grid_mode=True)


@pytest.mark.parametrize("grid", [(8, 8), (4, 6), (1, 1), (7, 5), (64, 64)])
@pytest.mark.parametrize("sigma", [0.0, 1.0, 4.0, 20.0])
def test_map_is_that_of_scipy(grid: tuple[int, int], sigma: float) -> None:
    values = np.random.default_rng(0).normal(5, 2, grid).astype(np.float32)
    model = (64, 64)
    expected = _zoomed(values, model)
    if sigma:
        expected = ndimage.gaussian_filter(expected, sigma, mode="reflect", truncate=4.0)
    found = map_from_grid(values, model, model, sigma)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("target", [(64, 64), (100, 37), (200, 300), (1, 5)])
def test_map_at_the_image_size(target: tuple[int, int]) -> None:
    values = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    at_model = ndimage.gaussian_filter(_zoomed(values, (64, 64)), 3.0, mode="reflect")
    expected = _zoomed(at_model, target) if target != (64, 64) else at_model
    found = map_from_grid(values, (64, 64), target, 3.0)
    assert found.shape == target
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.floats(0, 30),
    st.floats(-1e3, 1e3),
)
@settings(max_examples=40, deadline=None)
def test_level_and_range_are_kept(
    grid: tuple[int, int], target: tuple[int, int], sigma: float, level: float
) -> None:
    flat = map_from_grid(np.full(grid, level, np.float32), (32, 32), target, sigma)
    np.testing.assert_allclose(flat, level, atol=1e-4 * (1 + abs(level)))
    values = np.random.default_rng(2).uniform(0, 1, grid).astype(np.float32)
    found = map_from_grid(values, (32, 32), target, sigma)
    assert found.min() >= values.min() - 1e-5
    assert found.max() <= values.max() + 1e-5


def test_peak_stays_where_it_was() -> None:
    values = np.zeros((8, 8), np.float32)
    values[2, 5] = 1
    found = map_from_grid(values, (64, 64), (160, 320), 4.0)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert row == pytest.approx((2 + 0.5) * 20, abs=2)
    assert column == pytest.approx((5 + 0.5) * 40, abs=4)
