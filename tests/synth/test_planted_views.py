"""Defects in views change what they touch and leave the rest as it was."""

from __future__ import annotations

import numpy as np
import pytest

from offnominal.synth import KINDS
from offnominal.synth.views import plant_in_view


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(64, 64), (48, 80), (20, 20)])
def test_only_the_defect_changes(kind: str, size: tuple[int, int]) -> None:
    view = np.random.default_rng(0).uniform(60, 200, (*size, 3)).astype(np.float32)
    before = view.copy()
    changed, mask = plant_in_view(view, kind, 0.8, np.random.default_rng(1))
    np.testing.assert_array_equal(view, before)
    assert changed.shape == view.shape
    assert changed.dtype == np.float32
    assert 0 <= changed.min() <= changed.max() <= 255
    assert mask.shape == (max(16, size[0] // 2), max(16, size[1] // 2))
    assert 0 < mask.mean() < 0.6
    apart = np.abs(changed - view).max(axis=2)
    rows = np.arange(size[0]) * mask.shape[0] // size[0]
    columns = np.arange(size[1]) * mask.shape[1] // size[1]
    large = mask[np.ix_(rows, columns)]
    assert apart[large].mean() > 5
    assert (apart == 0).mean() > 0.2


def test_same_draw_same_defect() -> None:
    view = np.full((64, 64, 3), 120, np.float32)
    one, two = (plant_in_view(view, "stain", 0.5, np.random.default_rng(4))[0] for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="planted defect"):
        plant_in_view(np.zeros((64, 64, 3), np.float32), "hole", 0.5, np.random.default_rng(0))
