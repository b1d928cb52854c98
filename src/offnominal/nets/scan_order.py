"""Orders in which the cells of a grid become a sequence.

An order is a permutation: ``order[t]`` is the row-major index of the cell visited at time t, so
``tokens[:, order]`` is the sequence and ``sequence[:, inverse(order)]`` the grid again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Order = npt.NDArray[np.int64]


def sweep(rows: int, columns: int) -> Order:
    """Row by row, each from the left."""
    return np.arange(rows * columns, dtype=np.int64)


def serpentine(rows: int, columns: int) -> Order:
    """Row by row, every second one from the right, so that each step goes to a neighbour."""
    grid = np.arange(rows * columns, dtype=np.int64).reshape(rows, columns)
    grid[1::2] = grid[1::2, ::-1]
    return grid.reshape(-1)


def hilbert(rows: int, columns: int) -> Order:
    """Along the Hilbert curve, which keeps neighbourhoods together in both directions.

    Where the grid is no square with a power of two as its side, the curve of the smallest such square around
    it is taken and cells outside are passed over: every cell is still visited once, but some steps jump.
    """
    side = 1
    while side < max(rows, columns):
        side *= 2
    place = np.arange(side * side, dtype=np.int64)
    row, column = np.zeros_like(place), np.zeros_like(place)
    rest = place.copy()
    half = 1
    while half < side:  # from the smallest square up, turn the part walked so far into its quarter
        right = (rest // 2) & 1
        lower = (rest ^ right) & 1
        turned = lower == 0
        mirrored = turned & (right == 1)
        row, column = (
            np.where(mirrored, half - 1 - row, row),
            np.where(mirrored, half - 1 - column, column),
        )
        row, column = np.where(turned, column, row), np.where(turned, row, column)
        row, column = row + half * right, column + half * lower
        rest //= 4
        half *= 2
    inside = (row < rows) & (column < columns)
    return row[inside] * columns + column[inside]


ORDERS: dict[str, Callable[[int, int], Order]] = {
    "hilbert": hilbert,
    "sweep": sweep,
    "serpentine": serpentine,
}


def inverse(order: Order) -> Order:
    """The permutation that undoes an order; over the last axis, so a stack of orders works too."""
    return np.argsort(order, axis=-1)


def eight_directions(kind: str, rows: int, columns: int) -> Order:
    """An order over the grid, its transpose, its quarter turn and the transpose of that, there and back.

    Parameters
    ----------
    kind : {"hilbert", "sweep", "serpentine"}
    rows, columns : int

    Returns
    -------
    (8, rows·columns) int64 array
        The four ways there, then the same four backwards.
    """
    if kind not in ORDERS:
        raise ValueError(f"scan order must be {', '.join(ORDERS)}; got {kind!r}")
    grid = np.arange(rows * columns, dtype=np.int64).reshape(rows, columns)
    turned = np.rot90(grid)
    there = [cells.reshape(-1)[ORDERS[kind](*cells.shape)] for cells in (grid, grid.T, turned, turned.T)]
    return np.stack([*there, *(way[::-1] for way in there)])
