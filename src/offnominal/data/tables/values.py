"""Columns of Python values: which kind they are, and what does not fit."""

from __future__ import annotations

import datetime
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource
from offnominal.data.tables.rows import Kind

_LOOK = 1_000  # words by which text is told from categories
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, NaT, pandas' NA."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return type(value).__name__ in ("NAType", "NaTType")


def convert(name: str, column: str, values: Sequence[Any]) -> tuple[Kind, npt.NDArray[Any]]:
    """Kind and array of a column of Python values.

    Parameters
    ----------
    name, column : str
        Of the table and the column, for errors.
    values : sequence
        Numbers, words or dates, and missing ones.

    Returns
    -------
    kind : str
    values : ndarray (n,)
        float64 with NaN where missing, or object (str) with None where missing.

    Raises
    ------
    BadSource
        The column mixes kinds, or holds what is none of them; says in which row.
    """
    kind: str | None = None
    first = 0
    for row, value in enumerate(values):
        if is_missing(value):
            continue
        found = _kind(value)
        if found is None:
            raise BadSource(
                f"{name}, row {row}, column {column!r}: holds {type(value).__name__}, which is no number, "
                "date or word; drop the column, or turn it into one"
            )
        if kind is None:
            kind, first = found, row
        elif found != kind:
            raise BadSource(
                f"{name}, row {row}, column {column!r}: {value!r} is a {found}, row {first} holds a {kind}; "
                "make the column one kind"
            )
    if kind == "word":
        words = np.array([None if is_missing(value) else str(value) for value in values], dtype=object)
        return guess(words), words
    if kind == "date":
        return "date", np.array([math.nan if is_missing(value) else _seconds(value) for value in values])
    return "number", np.array([math.nan if is_missing(value) else _float(value) for value in values])


def guess(words: npt.NDArray[np.object_]) -> Kind:
    """Whether words are categories or text: text is long, hardly repeats, and has spaces."""
    seen = [word for word in words[: 4 * _LOOK] if word is not None][:_LOOK]
    if not seen:
        return "category"
    length = sum(map(len, seen)) / len(seen)
    spaced = sum(" " in word for word in seen) / len(seen)
    return "text" if length >= 16 and spaced > 0.5 and len(set(seen)) > len(seen) / 2 else "category"


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "word"
    if isinstance(value, datetime.date | np.datetime64):
        return "date"
    if isinstance(value, bool | numbers.Number | np.bool_) and not isinstance(value, complex):
        return "number"
    return "number" if type(value).__name__ == "Decimal" else None


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond any float: as far off as a number can be
        return math.inf if value > 0 else -math.inf


def _seconds(value: Any) -> float:
    if isinstance(value, np.datetime64):
        return float(value.astype("datetime64[us]").astype(np.int64)) / 1e6
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
        return (aware - _EPOCH).total_seconds()
    return (
        datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC) - _EPOCH
    ).total_seconds()
