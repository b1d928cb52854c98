"""Loops that numpy cannot do quickly, compiled with numba (the extra ``table``); imported when needed only.

Nothing here is needed for a result: each loop has a slower equal in the module that uses it. The loops hold
no lock, so that threads can share the rows; compiling a loop for one thread takes a fraction of what numba's
own threading takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True)
def keep_nearest(products: Any, halves: Any, first: int, values: Any, rows: Any) -> None:
    """Insert ``halves[first + j] − products[i, j]`` into the sorted lists ``values`` (q, k) and ``rows``."""
    k = values.shape[1]
    for i in range(products.shape[0]):
        worst = values[i, k - 1]
        for j in range(products.shape[1]):
            value = halves[first + j] - products[i, j]
            if value < worst:
                place = k - 1
                while place > 0 and values[i, place - 1] > value:
                    values[i, place] = values[i, place - 1]
                    rows[i, place] = rows[i, place - 1]
                    place -= 1
                values[i, place] = value
                rows[i, place] = first + j
                worst = values[i, k - 1]


_CHUNK = 32  # values compared at once


@njit(nogil=True)
def screen_nearest(products: Any, halves: Any, first: int, values: Any, rows: Any) -> None:
    """As `keep_nearest`, passing over chunks that hold nothing near: nearly all of them do not."""
    k, count = values.shape[1], products.shape[1]
    for i in range(products.shape[0]):
        worst = values[i, k - 1]
        for start in range(0, count, _CHUNK):
            # Slices, so that indices are known to be no negative ones and the counting loop becomes a
            # vector's.
            some = products[i, start : start + _CHUNK]
            part = halves[first + start : first + start + len(some)]
            near = np.int32(0)
            for j in range(len(some)):
                near += np.int32(part[j] - some[j] < worst)
            if near == 0:
                continue
            for j in range(len(some)):
                value = part[j] - some[j]
                if value < worst:
                    place = k - 1
                    while place > 0 and values[i, place - 1] > value:
                        values[i, place] = values[i, place - 1]
                        rows[i, place] = rows[i, place - 1]
                        place -= 1
                    values[i, place] = value
                    rows[i, place] = first + start + j
                    worst = values[i, k - 1]


_ROWS = 512  # rows that walk a tree side by side


@njit(nogil=True)
def tree_depths(
    rows: Any, columns: Any, levels: Any, after: Any, depths: Any, roots: Any, steps: int, found: Any
) -> None:
    """Sum over trees the path length of each row; nodes split on one column.

    Leaves lead to themselves (level infinite), so that all rows of a block take the same ``steps`` without
    branching: guessing branches wrong costs more than the steps spared.
    """
    count = rows.shape[0]
    for block in range((count + _ROWS - 1) // _ROWS):
        first = block * _ROWS
        size = min(_ROWS, count - first)
        across = rows[first : first + size].T.copy()
        node = np.empty(size, np.uint32)
        total = np.zeros(size)
        for tree in range(roots.shape[0]):
            node[:] = roots[tree]
            for _ in range(steps):
                for i in range(size):
                    here = node[i]
                    node[i] = after[here] + np.uint32(across[columns[here], i] >= levels[here])
            for i in range(size):
                total[i] += depths[node[i]]
        found[first : first + size] = total


@njit(nogil=True)
def slanted_depths(
    rows: Any,
    columns: Any,
    weights: Any,
    levels: Any,
    after: Any,
    depths: Any,
    roots: Any,
    steps: int,
    found: Any,
) -> None:
    """Sum over trees the path length of each row; nodes split on a weighted sum of several columns."""
    count, width = rows.shape[0], columns.shape[1]
    for block in range((count + _ROWS - 1) // _ROWS):
        first = block * _ROWS
        size = min(_ROWS, count - first)
        node = np.empty(size, np.uint32)
        total = np.zeros(size)
        for tree in range(roots.shape[0]):
            node[:] = roots[tree]
            for _ in range(steps):
                for i in range(size):
                    here = node[i]
                    value = 0.0
                    for part in range(width):
                        value += weights[here, part] * rows[first + i, columns[here, part]]
                    node[i] = after[here] + np.uint32(value >= levels[here])
            for i in range(size):
                total[i] += depths[node[i]]
        found[first : first + size] = total
