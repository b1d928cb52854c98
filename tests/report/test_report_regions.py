"""Regions: every place above the threshold, boxed exactly, strongest first."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from offnominal.report import regions


def flooded(heat, threshold):
    """Independent reference: breadth-first search with eight neighbours."""
    todo = {tuple(map(int, place)) for place in np.argwhere(heat > threshold)}
    found = []
    while todo:
        queue, members = deque([todo.pop()]), []
        while queue:
            y, x = queue.popleft()
            members.append((y, x))
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            todo -= around
            queue.extend(around)
        ys, xs = zip(*members, strict=True)
        box = [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
        found.append((box, max(float(heat[place]) for place in members), len(members)))
    return found


@settings(deadline=None)  # the first example also pays for imports
@given(
    arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 6)),
    st.integers(-1, 6),
    st.integers(1, 4),
)
def test_agrees_with_a_flood_fill(heat, threshold, least):
    expected = [
        (box, score) for box, score, size in flooded(heat, threshold) if size >= least or score == heat.max()
    ]
    found = regions(heat, threshold, most=1000, least=least)
    assert sorted((region.where, region.score) for region in found) == sorted(expected)
    assert [region.score for region in found] == sorted((region.score for region in found), reverse=True)
    strongest = [region.score for region in regions(heat, threshold, most=2, least=least)]
    assert strongest == [region.score for region in found[:2]]


def test_specks_go_but_never_the_place_of_the_maximum():
    heat = np.zeros((200, 200), dtype=np.float32)
    heat[10:20, 10:20] = 2.0
    heat[50, 50] = 1.5
    assert [region.where for region in regions(heat, 1.0)] == [[10, 10, 20, 20]]
    heat[50, 50] = 9.0
    assert regions(heat, 1.0)[0].where == [50, 50, 51, 51]


def test_the_threshold_itself_is_not_above_it_and_nan_is_not():
    heat = np.full((4, 4), 1.0, dtype=np.float32)
    assert regions(heat, 1.0) == ()
    heat[0, 0], heat[2, 2] = np.nan, 3.0
    assert [region.where for region in regions(heat, 1.0)] == [[2, 2, 3, 3]]


def test_a_stack_of_maps_is_refused():
    with pytest.raises(ValueError, match="one map at a time"):
        regions(np.zeros((2, 3, 3)), 0.5)


def test_records_are_json():
    (region,) = regions(np.eye(3, dtype=np.float32), 0.5, least=1)
    assert region.to_json() == {"kind": "box", "where": [0, 0, 3, 3], "score": 1.0}
