"""Tiles cover an image exactly, and maps put together from them show no seams."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.data import blend, tiles


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(1, 300), width=st.integers(1, 300), size=st.integers(4, 128), overlap=st.floats(0, 0.9)
)
def test_tiles_cover_every_pixel_overlap_as_asked_and_stay_inside(
    height: int, width: int, size: int, overlap: float
) -> None:
    boxes = tiles(height, width, size, overlap)
    covered = np.zeros((height, width), dtype=bool)
    for y0, x0, y1, x1 in boxes:
        assert 0 <= y0 < y1 <= height
        assert 0 <= x0 < x1 <= width
        assert (y1 - y0, x1 - x0) == (min(size, height), min(size, width))
        covered[y0:y1, x0:x1] = True
    assert covered.all()
    assert len(set(boxes)) == len(boxes)
    tops = sorted({box[0] for box in boxes})
    for upper, lower in pairwise(tops):
        assert upper + size - lower >= np.floor(overlap * size) - 1


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(20, 200), width=st.integers(20, 200), size=st.integers(16, 64), seed=st.integers(0, 99)
)
def test_tiles_of_one_map_give_that_map(height: int, width: int, size: int, seed: int) -> None:
    a, b, c = np.random.default_rng(seed).normal(size=3)
    y, x = np.mgrid[:height, :width] / 50
    whole = (np.sin(a * x + b * y) + c * x * y).astype(np.float32)
    boxes = tiles(height, width, size, 0.25)
    joined = blend((whole[y0:y1, x0:x1] for y0, x0, y1, x1 in boxes), boxes, (height, width))
    np.testing.assert_allclose(joined, whole, rtol=1e-5, atol=1e-5)


def test_tiles_that_disagree_meet_without_a_jump() -> None:
    boxes = tiles(200, 330, 96, 0.25)
    levels = np.random.default_rng(0).uniform(0, 1, len(boxes))
    maps = [np.full((y1 - y0, x1 - x0), level) for (y0, x0, y1, x1), level in zip(boxes, levels, strict=True)]
    joined = blend(maps, boxes, (200, 330))
    steps = max(np.abs(np.diff(joined, axis=0)).max(), np.abs(np.diff(joined, axis=1)).max())
    plain = np.zeros((200, 330))
    for (y0, x0, y1, x1), level in zip(boxes, levels, strict=True):
        plain[y0:y1, x0:x1] = level
    assert steps < 0.15 * np.abs(np.diff(plain, axis=1)).max()
    assert joined.min() >= levels.min() - 1e-6
    assert joined.max() <= levels.max() + 1e-6


def test_wrong_maps_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="a map of shape"):
        blend([np.zeros((3, 3))], [(0, 0, 4, 4)], (4, 4))
    with pytest.raises(ValueError, match="12 pixels are in no tile"):
        blend([np.zeros((2, 2))], [(0, 0, 2, 2)], (4, 4))
    with pytest.raises(ValueError, match="overlap is a share"):
        tiles(10, 10, 4, 1.0)
    with pytest.raises(ValueError, match="at least 1"):
        tiles(0, 10, 4)
