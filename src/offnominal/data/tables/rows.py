"""Rows of a table as arrays: what a block of a source is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["number", "category", "date", "text"]
KINDS: tuple[Kind, ...] = ("number", "category", "date", "text")
Positions = npt.NDArray[np.intp] | slice


@dataclass(frozen=True, slots=True)
class Column:
    """Name and kind of a column.

    Attributes
    ----------
    name : str
        As the table names it; its number, from 0, where it names none.
    kind : str
        ``number``, ``category`` (few distinct words), ``date`` (seconds since 1970 in UTC) or ``text``.
    """

    name: str
    kind: Kind = "number"

    @property
    def is_number(self) -> bool:
        """Whether the values are held as numbers."""
        return self.kind in ("number", "date")


@dataclass(frozen=True, slots=True)
class Rows:
    """A block of rows.

    Attributes
    ----------
    columns : tuple of Column
    numbers : ndarray (n, a) of floating
        The number and date columns, in order; NaN where a value is missing.
    words : ndarray (n, b) of object
        The category and text columns, in order, as str; None where a value is missing.
    named : bool
        Whether the table names its columns; else they are known by their place.
    """

    columns: tuple[Column, ...]
    numbers: npt.NDArray[Any]
    words: npt.NDArray[np.object_]
    named: bool = True

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, positions: Positions) -> Rows:
        """The rows of these positions; a slice copies nothing."""
        return Rows(self.columns, self.numbers[positions], self.words[positions], self.named)


def of_numbers(numbers: npt.NDArray[Any], names: Sequence[str] | None = None) -> Rows:
    """Rows of numbers (n, d) only."""
    given = names if names is not None else [str(i) for i in range(numbers.shape[1])]
    columns = tuple(Column(str(name)) for name in given)
    return Rows(columns, numbers, np.empty((len(numbers), 0), object), names is not None)


def joined(name: str, found: Sequence[tuple[str, Kind, npt.NDArray[Any]]], count: int) -> Rows:
    """Rows from named columns: float64 arrays for numbers and dates, object arrays for words."""
    from offnominal.core.errors import BadSource

    names = [column for column, _, _ in found]
    if twice := sorted({column for column in names if names.count(column) > 1}):
        raise BadSource(f"{name}: two columns are named {twice[0]!r}; rename one")
    columns = tuple(Column(column, kind) for column, kind, _ in found)
    numbers = [values for _, kind, values in found if kind in ("number", "date")]
    words = [values for _, kind, values in found if kind in ("category", "text")]
    return Rows(
        columns,
        np.column_stack(numbers) if numbers else np.empty((count, 0)),
        np.column_stack(words) if words else np.empty((count, 0), object),
    )
