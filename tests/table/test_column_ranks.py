"""Ranks of columns: exact where they are few, within the stated error where they are many, however merged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.table import column_ranks
from offnominal.table.column_ranks import ColumnRanks
from offnominal.table.tails import Tails


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(-5, 5), min_size=1, max_size=20), min_size=1, max_size=6))
def test_pieces_merge_to_the_whole(pieces: list[list[int]]) -> None:
    whole = ColumnRanks(1).absorb(np.concatenate(pieces).astype(float)[:, None])
    merged = ColumnRanks(1)
    for piece in pieces:
        merged.merge(ColumnRanks(1).absorb(np.array(piece, float)[:, None]))
    again = ColumnRanks.restore(merged.state())
    for one in (merged, again):
        for (values, weights), (other, counts) in zip(whole.columns(), one.columns(), strict=True):
            np.testing.assert_array_equal(values, other)
            np.testing.assert_array_equal(weights, counts)
        assert one.count == whole.count


@pytest.mark.parametrize("pieces", [1, 8])
def test_large_columns_stay_within_the_error(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_ranks, "EXACT", 2_000)
    monkeypatch.setattr(column_ranks, "ERROR", 0.01)
    rows = np.random.default_rng(0).lognormal(size=(40_000, 2))
    ranks = ColumnRanks(2)
    for part in np.array_split(rows, pieces):
        ranks.merge(ColumnRanks(2).absorb(part))
    assert ranks.count == 40_000
    assert all(len(values) < 3_000 for values, _ in ranks.columns())
    asked = np.random.default_rng(1).lognormal(size=(500, 2))
    left, right = Tails(ranks).surprises(asked)
    for column in range(2):
        exact = -np.log([((rows[:, column] <= x).sum() + 1) / 40_001 for x in asked[:, column]])
        other = -np.log([((rows[:, column] >= x).sum() + 1) / 40_001 for x in asked[:, column]])
        # One reduction a merge, and a group may straddle two steps of the logarithm.
        assert abs(left[:, column] - exact).max() < 0.02 * pieces
        assert abs(right[:, column] - other).max() < 0.02 * pieces
    ends = np.array([[rows[:, 0].min(), rows[:, 1].min()], [rows[:, 0].max(), rows[:, 1].max()]])
    left, right = Tails(ranks).surprises(ends)
    np.testing.assert_allclose(left[0], -np.log(2 / 40_001))
    np.testing.assert_allclose(right[1], -np.log(2 / 40_001))
