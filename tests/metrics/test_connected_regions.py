"""Regions equal scipy's labelling, number for number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from offnominal.metrics import label_regions


def same_as_scipy(mask):
    labels, count = label_regions(mask)
    expected, expected_count = ndimage.label(mask, structure=np.ones((3, 3)))
    assert count == expected_count
    np.testing.assert_array_equal(labels, expected)


@settings(deadline=None, max_examples=200)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)))
def test_any_mask(mask):
    same_as_scipy(mask)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.41, 0.6, 0.95])
def test_large_random_masks(density):
    same_as_scipy(np.random.default_rng(1).random((301, 211)) < density)


def test_a_spiral_is_one_region_and_combs_join_late():
    spiral = np.zeros((65, 65), dtype=bool)
    for ring in range(0, 32, 2):
        spiral[ring, ring : 65 - ring] = spiral[ring : 65 - ring, 64 - ring] = True
        spiral[64 - ring, ring : 65 - ring] = spiral[ring + 2 : 65 - ring, ring] = True
        spiral[ring + 2, ring : ring + 3] = True
    same_as_scipy(spiral)
    comb = np.zeros((50, 101), dtype=bool)
    comb[:, ::2] = True
    comb[-1] = True
    assert label_regions(comb)[1] == 1
    same_as_scipy(comb)


def test_a_volume_has_no_regions_here():
    with pytest.raises(ValueError, match="two-dimensional"):
        label_regions(np.zeros((2, 3, 4)))
