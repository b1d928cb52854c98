"""From mixed columns to a matrix of numbers: an explicit step, fitted with the model and stored with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource
from offnominal.data.tables import Column, Kind, Rows
from offnominal.table.text_hash import hashed_trigrams

Scaling = Literal["standard", "robust", "none"]
Missing = Literal["refuse", "impute"]
LARGEST = 1e70
"""Encoded numbers are held within it, so that their fourth powers stay finite."""
ONE_HOT = 2**-0.5
"""Height of a category's column: two different categories are then one scaled unit apart."""


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """How one column becomes numbers.

    Attributes
    ----------
    name, kind : str
        Of the table's column.
    centre, scale : float
        A number or date x becomes (x − centre) / scale.
    fill : float
        What takes the place of a missing number, before scaling.
    indicated : bool
        Whether one more column tells that the value was missing.
    levels : tuple of str
        Categories with a column each; all others, seen or not, share the one after them.
    width : int
        Encoded columns.
    """

    name: str
    kind: Kind
    centre: float = 0.0
    scale: float = 1.0
    fill: float = 0.0
    indicated: bool = False
    levels: tuple[str, ...] = ()
    width: int = 1

    @property
    def is_number(self) -> bool:
        """Whether the table holds numbers."""
        return self.kind in ("number", "date")


@dataclass(frozen=True, slots=True)
class Order:
    """Where the fitted columns are in a table: places in ``numbers`` (None: as fitted) and ``words``."""

    numbers: npt.NDArray[np.intp] | None
    words: tuple[int, ...]


class Encoding:
    """A fitted encoding.

    Parameters
    ----------
    columns : sequence of EncodedColumn
    missing : {"refuse", "impute"}
    named : bool
        Whether the training table named its columns.
    """

    def __init__(self, columns: tuple[EncodedColumn, ...], missing: Missing, named: bool) -> None:
        self.columns = columns
        self.missing = missing
        self.named = named
        self.width = sum(column.width for column in columns)
        self.owner = np.repeat(np.arange(len(columns)), [column.width for column in columns])
        self.starts = np.cumsum([0, *(column.width for column in columns)])[:-1]
        self._numbers = [column for column in columns if column.is_number]
        self._centre = np.array([column.centre for column in self._numbers])
        self._scale = np.array([column.scale for column in self._numbers])
        self._fill = np.array([column.fill for column in self._numbers])
        self._plain = self.width == len(self._numbers)  # then the matrix is the numbers, scaled
        self._scaled = bool((self._centre != 0).any() or (self._scale != 1).any())

    def order(self, columns: tuple[Column, ...], named: bool, name: str) -> Order:
        """Find the fitted columns in a table: by name where both name them, else by place.

        Raises
        ------
        BadSource
            Columns are missing, added, renamed or of another kind.
        """
        if not (named and self.named):
            if len(columns) != len(self.columns):
                raise BadSource(
                    f"{name}: has {len(columns)} columns, the model was fitted on {len(self.columns)}"
                )
            found = list(range(len(columns)))
        else:
            there = {column.name: place for place, column in enumerate(columns)}
            wanted = [column.name for column in self.columns]
            lacking = [known for known in wanted if known not in there]
            added = [known for known in there if known not in set(wanted)]
            if lacking or added:
                parts = [f"lacks {_listed(lacking)}"] if lacking else []
                parts += [f"has {_listed(added)} more"] if added else []
                raise BadSource(
                    f"{name}: {' and '.join(parts)}, against the model's columns; rename or drop "
                    "columns to match it"
                )
            found = [there[known] for known in wanted]
        for known, place in zip(self.columns, found, strict=True):
            kind = columns[place].kind
            if columns[place].is_number != known.is_number or (known.is_number and kind != known.kind):
                raise BadSource(
                    f"{name}, column {known.name!r}: holds {_PLURAL[kind]}, the model was fitted on "
                    f"{_PLURAL[known.kind]}; convert it"
                )
        ranks: list[int] = []
        counts = [0, 0]
        for column in columns:
            ranks.append(counts[column.is_number])
            counts[column.is_number] += 1
        numbers = [ranks[p] for known, p in zip(self.columns, found, strict=True) if known.is_number]
        words = tuple(ranks[p] for known, p in zip(self.columns, found, strict=True) if not known.is_number)
        same = numbers == list(range(counts[True]))
        return Order(None if same else np.array(numbers, dtype=np.intp), words)

    def apply(self, rows: Rows, order: Order) -> tuple[npt.NDArray[np.float64], dict[int, str]]:
        """Encode rows.

        Parameters
        ----------
        rows : Rows
        order : Order
            Of the rows' table, from `order`.

        Returns
        -------
        matrix : ndarray (n, width) of float64
            C-contiguous; not a view of the rows.
        bad : dict of int to str
            Rows that cannot be used, and why; they are zeros.
        """
        numbers = rows.numbers if order.numbers is None else rows.numbers[:, order.numbers]
        bad: dict[int, str] = {}
        values = np.array(numbers, dtype=np.float64, order="C")
        lost: npt.NDArray[np.bool_] | None = None
        with np.errstate(invalid="ignore", over="ignore"):
            suspect = not np.isfinite(values.sum())  # one number tells of every one
        if suspect:
            self._refuse(values, bad)
            lost = np.isnan(values)
            if self.missing == "refuse":
                self._refuse_missing(lost, bad)
            values[lost] = np.broadcast_to(self._fill, values.shape)[lost]
        if self._scaled:
            with np.errstate(over="ignore"):
                values -= self._centre
                values /= self._scale
        if values.size and max(values.max(), -values.min()) > LARGEST:
            np.clip(values, -LARGEST, LARGEST, out=values)
        matrix = values if self._plain else self._spread(values, lost, rows.words, order.words, bad)
        if bad:
            matrix[list(bad)] = 0
        return matrix, bad

    def _refuse(self, values: npt.NDArray[np.float64], bad: dict[int, str]) -> None:
        infinite = np.isinf(values)
        for row in np.flatnonzero(infinite.any(axis=1)):
            names = [self._numbers[place].name for place in np.flatnonzero(infinite[row])]
            bad[int(row)] = f"holds infinity in column {_listed(names)}"
        values[infinite] = 0

    def _refuse_missing(self, lost: npt.NDArray[np.bool_], bad: dict[int, str]) -> None:
        for row in np.flatnonzero(lost.any(axis=1)):
            names = [self._numbers[place].name for place in np.flatnonzero(lost[row])]
            bad.setdefault(int(row), f"has no value in column {_listed(names)}")

    def _spread(
        self,
        values: npt.NDArray[np.float64],
        lost: npt.NDArray[np.bool_] | None,
        words: npt.NDArray[np.object_],
        places: tuple[int, ...],
        bad: dict[int, str],
    ) -> npt.NDArray[np.float64]:
        matrix = np.zeros((len(values), self.width))
        number = 0
        word = iter(places)
        for column, start in zip(self.columns, self.starts, strict=True):
            if column.is_number:
                matrix[:, start] = values[:, number]
                if column.indicated and lost is not None:
                    matrix[:, start + 1] = lost[:, number]
                number += 1
                continue
            given = words[:, next(word)].tolist()
            if self.missing == "refuse":
                for row in (row for row, value in enumerate(given) if value is None):
                    bad.setdefault(row, f"has no value in column {column.name!r}")
            if column.kind == "text":
                matrix[:, start : start + column.width] = hashed_trigrams(given, column.width)
                continue
            codes = {level: place for place, level in enumerate(column.levels)}
            other = len(column.levels)
            level = np.fromiter((codes.get(value, other) for value in given), np.intp, len(given))
            matrix[np.arange(len(given)), start + level] = ONE_HOT
        return matrix

    def fold(self, parts: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Sum what encoded columns contribute (n, width) into the table's columns (n, d), float32."""
        whole = parts if self._plain else np.add.reduceat(parts, self.starts, axis=1)
        limit = float(np.finfo(np.float32).max)
        return np.clip(whole, -limit, limit).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Everything there is, as JSON values."""
        columns = [{**asdict(column), "levels": list(column.levels)} for column in self.columns]
        return {"missing": self.missing, "named": self.named, "columns": columns}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Encoding:
        """Make an encoding again from what `to_json` returned."""
        columns = tuple(
            EncodedColumn(**{**column, "levels": tuple(column["levels"])}) for column in stored["columns"]
        )
        return cls(columns, stored["missing"], bool(stored["named"]))


_PLURAL = {"number": "numbers", "date": "dates", "category": "words", "text": "words"}


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
