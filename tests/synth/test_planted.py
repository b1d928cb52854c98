"""Planted defects: seeded, marked, and nowhere else than marked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.core.seeds import generator
from offnominal.synth import KINDS, generate, plant


def ground(height: int = 64, width: int = 80, channels: int = 3) -> np.ndarray:
    return generator(3, "ground").integers(60, 200, (height, width, channels)).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    level=st.floats(0.05, 1),
    side=st.integers(16, 90),
    channels=st.sampled_from([1, 3]),
)
def test_a_defect_changes_what_its_mask_marks_and_little_else(kind, seed, level, side, channels) -> None:
    image = ground(side, side + 7, channels)
    before = image.copy()
    item, mask = plant(image, kind, level, generator(seed, "test"))
    np.testing.assert_array_equal(image, before)
    assert item.shape == image.shape
    assert item.dtype == np.uint8
    assert mask.shape == image.shape[:2]
    change = np.abs(item.astype(int) - image).max(axis=2)
    assert 0 < mask.sum() < 0.5 * mask.size
    assert change[mask].mean() > 5
    assert change[~mask].sum() < 0.35 * change.sum(), "what is not marked keeps nearly all its pixels"
    rows, columns = np.nonzero(mask)
    far = np.ones_like(mask)
    reach = side // 4 + 3
    far[
        max(rows.min() - reach, 0) : rows.max() + reach, max(columns.min() - reach, 0) : columns.max() + reach
    ] = False
    assert (change[far] == 0).all()


def test_generate_is_seeded_and_goes_through_kinds_and_images() -> None:
    sources = [ground(), ground()[:, ::-1], ground()[..., 0]]
    one, again, other = (generate(sources, 8, seed=seed) for seed in (1, 1, 2))
    assert one.kinds == [*KINDS, *KINDS]
    assert len(one.items) == len(one.masks) == len(one.levels) == 8
    assert all(0 < level <= 1 for level in one.levels)
    for first, second, third in zip(one.items, again.items, other.items, strict=True):
        np.testing.assert_array_equal(first, second)
        assert (first != third).any()
    assert one.items[2].shape == (64, 80, 1)
    first = generate(sources, 3, seed=1)
    np.testing.assert_array_equal(first.items[2], one.items[2])


def test_a_higher_level_is_a_stronger_defect() -> None:
    image = np.full((96, 96), 130, dtype=np.uint8)
    for kind in ("scratch", "stain", "missing piece", "dent"):
        sums = []
        for level in (0.2, 1.0):
            items = [plant(image, kind, level, generator(seed, "level"))[0].astype(int) for seed in range(10)]
            sums.append(sum(np.abs(item[..., 0] - 130).sum() for item in items))
        assert sums[1] > 1.3 * sums[0], kind


@pytest.mark.parametrize(
    ("kind", "level", "side", "words"),
    [
        ("rust", 0.5, 64, "scratch"),
        ("dent", 0.0, 64, "level"),
        ("dent", 1.5, 64, "level"),
        ("dent", 0.5, 8, "too small"),
    ],
)
def test_what_cannot_be_planted_is_refused(kind, level, side, words) -> None:
    with pytest.raises(ValueError, match=words):
        plant(ground(side, side), kind, level, generator(0, "x"))
    with pytest.raises(ValueError, match="at least one image"):
        generate([], 3)
