"""Rows of a source in blocks, as matrices a method can use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadItems
from offnominal.core.progress import track
from offnominal.core.source import Item, Source
from offnominal.data.tables import Column, Rows, of_numbers
from offnominal.pipeline import Positions
from offnominal.table.encoding import Encoding, Order

Matrix = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

ONE_BY_ONE = 64
"""Rows a block where a source reads one at a time."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of what was asked for.

    Attributes
    ----------
    asked : ndarray of int
        Positions of the part.
    good : ndarray (n,) of int
        Those that can be used, in the order asked for.
    rows : Rows or None
        Of the good ones; None where there are none.
    bad : list of (position, BadItem)
    """

    asked: Places
    good: Places
    rows: Rows | None
    bad: list[tuple[int, BadItem]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A part of what was asked for, encoded: a matrix (n, width) of the ``good`` positions."""

    asked: Places
    good: Places
    matrix: Matrix
    bad: list[tuple[int, BadItem]]


def reads_blocks(source: Source) -> bool:
    """Whether a source reads many rows at once."""
    return callable(getattr(source, "rows", None))


def bad_row(source: Source, position: int, reason: str) -> BadItem:
    """The error of a row, with what to do about it."""
    remedy = "correct it, or drop the row"
    if "no value" in reason:
        remedy = "fill it in, or fit with missing='impute'"
    return BadItem(source.references[position].item, reason, remedy)


def blocks(source: Source, positions: Positions, step: int, label: str) -> Iterator[Block]:
    """Read positions in blocks of ``step`` rows, fewer where the source reads one at a time."""
    step = step if reads_blocks(source) else min(step, ONE_BY_ONE)
    starts = range(0, len(positions), step)
    for first in track(starts, total=len(starts), label=label):
        part = positions[first : first + step]
        asked = np.asarray(part, dtype=np.intp)
        if reads_blocks(source):
            yield Block(asked, asked, source.rows(part), [])  # type: ignore[attr-defined]
        else:
            yield _one_by_one(source, asked)


def encoded(
    encoding: Encoding, source: Source, positions: Positions, step: int, label: str
) -> Iterator[Encoded]:
    """Read and encode positions in blocks.

    Raises
    ------
    BadSource
        The table's columns are not those of the encoding.
    """
    order: Order | None = None
    known: tuple[Column, ...] | None = None
    for block in blocks(source, positions, step, label):
        if block.rows is None:
            yield Encoded(block.asked, block.good, np.empty((0, encoding.width)), block.bad)
            continue
        if order is None or block.rows.columns is not known:
            order, known = (
                encoding.order(block.rows.columns, block.rows.named, source.name),
                block.rows.columns,
            )
        matrix, faults = encoding.apply(block.rows, order)
        good, bad = block.good, list(block.bad)
        if faults:
            bad += [(int(good[row]), bad_row(source, int(good[row]), why)) for row, why in faults.items()]
            kept = np.setdiff1d(np.arange(len(good)), list(faults))
            good, matrix = good[kept], matrix[kept]
        yield Encoded(block.asked, good, matrix, bad)


def whole(encoding: Encoding, source: Source, positions: Positions, step: int) -> Matrix:
    """All rows of these positions in one matrix; they are known to be usable."""
    matrix = np.empty((len(positions), encoding.width))
    first = 0
    for part in encoded(encoding, source, positions, step, "Reading"):
        if part.bad:
            raise BadItems([entry for _, entry in part.bad])
        matrix[first : first + len(part.matrix)] = part.matrix
        first += len(part.matrix)
    return matrix


def as_rows(item: Item) -> Rows:
    """One item's value as a block of one row.

    Raises
    ------
    BadItem
        It is no row.
    """
    if isinstance(item.value, Rows):
        return item.value
    values = np.asarray(item.value)
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise BadItem(item.reference.item, f"is {type(item.value).__name__}", "give a row (d,) of numbers")
    return of_numbers(values[None])


def _one_by_one(source: Source, asked: Places) -> Block:
    found: list[Rows] = []
    good: list[int] = []
    bad: list[tuple[int, BadItem]] = []
    for position in asked.tolist():
        try:
            found.append(as_rows(source.read(position)))
            good.append(position)
        except BadItem as error:
            bad.append((position, error))
    return Block(asked, np.array(good, dtype=np.intp), _stacked(found), bad)


def _stacked(found: Sequence[Rows]) -> Rows | None:
    if not found:
        return None
    numbers: npt.NDArray[Any] = np.concatenate([rows.numbers for rows in found])
    words = np.concatenate([rows.words for rows in found])
    return Rows(found[0].columns, numbers, words, found[0].named)
