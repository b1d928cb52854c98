from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offnominal.nets.scan_order import ORDERS, eight_directions, hilbert, inverse, serpentine

sides = st.integers(1, 20)


@given(kind=st.sampled_from(sorted(ORDERS)), rows=sides, columns=sides)
def test_every_cell_is_visited_once_in_all_directions(kind: str, rows: int, columns: int) -> None:
    ways = eight_directions(kind, rows, columns)
    assert ways.shape == (8, rows * columns)
    cells = np.arange(rows * columns)
    assert (np.sort(ways, axis=1) == cells).all()
    back = inverse(ways)
    for way, undo in zip(ways, back, strict=True):
        assert (way[undo] == cells).all()
        assert (cells[way][undo] == cells).all()
    assert (ways[4:] == ways[:4, ::-1]).all()


def steps(order: np.ndarray, columns: int) -> np.ndarray:
    row, column = order // columns, order % columns
    return np.abs(np.diff(row)) + np.abs(np.diff(column))


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16, 64])
def test_the_hilbert_curve_goes_from_neighbour_to_neighbour_and_fills_quarter_by_quarter(side: int) -> None:
    order = hilbert(side, side)
    assert (steps(order, side) == 1).all()
    size = side
    while size > 1:  # what makes it Hilbert's: each aligned square is left only when it is full
        squares = (order // side) // size * side + (order % side) // size
        assert np.count_nonzero(np.diff(squares)) == (side // size) ** 2 - 1
        size //= 2


def test_the_first_hilbert_curves_are_the_known_ones() -> None:
    assert hilbert(2, 2).tolist() == [0, 2, 3, 1] or hilbert(2, 2).tolist() == [0, 1, 3, 2]
    assert hilbert(4, 4)[0] == 0
    assert hilbert(4, 4)[-1] in (3, 12)


def test_other_sizes_keep_the_order_of_the_square_around_them() -> None:
    square = hilbert(8, 8)
    inside = [(cell // 8, cell % 8) for cell in square if cell // 8 < 5 and cell % 8 < 7]
    assert [(cell // 7, cell % 7) for cell in hilbert(5, 7)] == inside


def test_serpentine_goes_from_neighbour_to_neighbour() -> None:
    assert (steps(serpentine(5, 7), 7) == 1).all()


def test_the_four_ways_are_those_of_the_turned_grid() -> None:
    grid = np.arange(6).reshape(2, 3)
    ways = eight_directions("sweep", 2, 3)
    assert ways[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert ways[1].tolist() == grid.T.reshape(-1).tolist()
    assert ways[2].tolist() == [2, 5, 1, 4, 0, 3]
    assert ways[3].tolist() == [2, 1, 0, 5, 4, 3]


def test_an_unknown_order_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="hilbert"):
        eight_directions("spiral", 2, 2)
