"""Table sources: anything that holds rows, as a lazy sequence of items that can be read in blocks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, overload

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource
from offnominal.core.source import Item, Reference
from offnominal.data.tables.files import read_file
from offnominal.data.tables.frames import from_frame
from offnominal.data.tables.limits import TableLimits
from offnominal.data.tables.rows import KINDS, Column, Kind, Positions, Rows, joined, of_numbers
from offnominal.data.tables.sql import Sql, read_sql
from offnominal.data.tables.values import convert

OnBad = Literal["raise", "skip"]
PerRow = str | Sequence[Any] | npt.NDArray[Any] | None


class Store(Protocol):
    """Where rows lie: in memory, or in a file that is read in spans."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Names and kinds of the columns."""

    @property
    def named(self) -> bool:
        """Whether the table names its columns."""

    def __len__(self) -> int: ...
    def take(self, positions: Positions) -> Rows:
        """The rows of these positions."""


class RowReferences(Sequence[Reference]):
    """References of rows, each made when it is asked for: a million rows cost nothing until then."""

    def __init__(self, source: TableSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    @overload
    def __getitem__(self, index: int) -> Reference: ...
    @overload
    def __getitem__(self, index: slice) -> list[Reference]: ...
    def __getitem__(self, index: int | slice) -> Reference | list[Reference]:
        """Reference of one row, or a list of them."""
        if isinstance(index, slice):
            return [self._source.reference(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._source.reference(index % len(self))


class TableSource:
    """A sequence of rows; made by `tables`.

    Attributes
    ----------
    name : str
        The source as the user named it.
    modality : str
        ``"table"``.
    on_bad : {"raise", "skip"}
        What `Detector.fit` does about rows that cannot be used.
    columns : tuple of Column
    named : bool
        Whether the table names its columns.
    labels : ndarray (n,) of int8
        0 normal, 1 anomalous, -1 unknown.
    groups, products : ndarray (n,) of object, or None
    """

    modality = "table"

    def __init__(
        self,
        name: str,
        store: Store,
        on_bad: OnBad,
        labels: npt.NDArray[np.int8],
        groups: npt.NDArray[np.object_] | None,
        products: npt.NDArray[np.object_] | None,
        positions: npt.NDArray[np.intp] | None = None,
        file: str | None = None,
    ) -> None:
        self.name = name
        self.on_bad: OnBad = on_bad
        self.labels = labels
        self.groups = groups
        self.products = products
        self._store = store
        self._positions = positions
        self._file = file

    @property
    def columns(self) -> tuple[Column, ...]:
        """Names and kinds of the columns."""
        return self._store.columns

    @property
    def named(self) -> bool:
        """Whether the table names its columns."""
        return self._store.named

    @property
    def references(self) -> Sequence[Reference]:
        """One reference a row, made when it is asked for."""
        return RowReferences(self)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"TableSource({self.name!r}, {len(self)} rows, {len(self.columns)} columns)"

    def reference(self, position: int) -> Reference:
        """What is known of a row: its number in the table is its name."""
        row = position if self._positions is None else int(self._positions[position])
        return Reference(
            str(row),
            self.name,
            index=row,
            group=None if self.groups is None else self.groups[position],
            product=None if self.products is None else self.products[position],
            label=int(self.labels[position]),
        )

    def rows(self, positions: Sequence[int] | npt.NDArray[np.intp] | range | slice) -> Rows:
        """Read many rows at once: what makes tables quick.

        Parameters
        ----------
        positions : sequence of int, or slice
            A slice or a range of step 1 copies nothing where the rows are in memory.
        """
        if isinstance(positions, range) and positions.step == 1:
            positions = slice(positions.start, positions.stop)
        if self._positions is not None:
            return self._store.take(self._positions[positions])
        return self._store.take(positions if isinstance(positions, slice) else np.asarray(positions, np.intp))

    def read(self, position: int) -> Item:
        """Read one row.

        Returns
        -------
        Item
            Its value is an array (d,) of numbers where all columns are numbers, else `Rows` of one row.
        """
        if not 0 <= position < len(self):
            raise IndexError(position)
        rows = self.rows(np.array([position]))
        reference = self.reference(position)
        plain = all(column.kind == "number" for column in self.columns)
        return Item(reference, rows.numbers[0] if plain else rows)

    def path(self, position: int) -> str | None:
        """File the row is in, None where it is in memory."""
        return self._file

    def mask(self, position: int) -> npt.NDArray[np.bool_] | None:
        """None: tables do not say which cell is off."""
        return None

    def subset(self, positions: Sequence[int] | npt.NDArray[np.intp]) -> TableSource:
        """The same table, restricted to the given rows, in that order."""
        chosen = np.asarray(positions, dtype=np.intp)
        return TableSource(
            self.name,
            self._store,
            self.on_bad,
            self.labels[chosen],
            None if self.groups is None else self.groups[chosen],
            None if self.products is None else self.products[chosen],
            chosen if self._positions is None else self._positions[chosen],
            self._file,
        )


def tables(
    source: Any,
    *,
    on_bad: OnBad = "raise",
    labels: PerRow = None,
    groups: PerRow = None,
    products: PerRow = None,
    drop: Iterable[str] = (),
    kinds: Mapping[str, Kind] | None = None,
    limits: TableLimits | None = None,
) -> TableSource:
    """Make a source of rows.

    Parameters
    ----------
    source : path, array, frame, list or Sql
        - a file: CSV, TSV, Parquet, Arrow or JSON lines (needs the extra ``table``); the first line of a
          text file names the columns. Large Parquet files are read in pieces;
        - an array (n, d) of numbers, or a list of n rows (d,);
        - a pandas, Polars or Arrow frame; the index of a pandas frame is no column;
        - a list of mappings, or a mapping of columns;
        - a `Sql` query.
    on_bad : {"raise", "skip"}, default "raise"
        Whether fitting stops at rows that cannot be used, or passes over them.
    labels, groups, products : column name or sequence, optional
        0 normal, 1 anomalous, -1 unknown · what stays together in a split · product kind. A column that is
        named here is no feature.
    drop : iterable of str
        Columns to leave out, such as identifiers.
    kinds : mapping of column name to {"number", "category", "date", "text"}, optional
        Where the kind found is not the one meant: a number that is a code, words that are text.
    limits : TableLimits, optional
        What a table may cost before it is refused.

    Raises
    ------
    BadSource
        There is nothing, or nothing that is understood, at ``source``; names file, row and column.
    ExtraMissing
        The optional part that reads this form is not installed.
    """
    if on_bad not in ("raise", "skip"):
        raise ValueError(f"on_bad must be 'raise' or 'skip', got {on_bad!r}")
    bounds = limits or TableLimits()
    name, store = _store(source, bounds)
    if not len(store):
        raise BadSource(f"{name}: has no rows")
    if len(store.columns) > bounds.max_columns:
        raise BadSource(f"{name}: {len(store.columns):,} columns, at most {bounds.max_columns:,} are read")
    facts = {"labels": labels, "groups": groups, "products": products}
    in_table = [value for value in facts.values() if isinstance(value, str)]
    given = {key: _values(name, store, key, value) for key, value in facts.items()}
    if in_table or drop or kinds:
        store = _changed(name, store, {*in_table, *drop}, kinds or {})
    if not store.columns:
        raise BadSource(f"{name}: no column is left to learn from")
    return TableSource(
        name,
        store,
        on_bad,
        _labels(name, given["labels"], len(store)),
        _names(given["groups"]),
        _names(given["products"]),
        file=os.fspath(source) if isinstance(source, str | os.PathLike) else None,
    )


def _store(source: Any, limits: TableLimits) -> tuple[str, Store]:
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        return path, read_file(path, limits)
    if isinstance(source, Sql):
        return source.name, read_sql(source)
    frame = from_frame(source, "frame")
    if frame is not None:
        return "frame", frame
    if isinstance(source, Mapping):
        return "columns", _from_columns(source)
    if isinstance(source, list | tuple):
        if not source:
            raise BadSource("an empty list holds no rows")
        if all(isinstance(row, Mapping) for row in source):
            keys = list(dict.fromkeys(key for row in source for key in row))
            return "list", _from_columns({key: [row.get(key) for row in source] for key in keys})
        return "list", _from_list(source)
    if hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
        return "array", _from_array(np.asarray(source))
    raise BadSource(
        f"rows cannot come from {type(source).__name__}; give an array (n, d), a frame, a file, a query or a "
        "list of rows"
    )


def _from_columns(columns: Mapping[Any, Any]) -> Rows:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise BadSource(
            f"columns have lengths {', '.join(map(str, sorted(lengths)))}; give each row every one"
        )
    found = [(str(key), *convert("columns", str(key), list(values))) for key, values in columns.items()]
    return joined("columns", found, lengths.pop() if lengths else 0)


def _from_list(rows: Sequence[Any]) -> Rows:
    widths = [np.size(row) if np.ndim(row) == 1 else -1 for row in rows]
    odd = next((place for place, width in enumerate(widths) if width != widths[0] or width < 1), None)
    if odd is not None:
        shape = np.shape(rows[odd])
        raise BadSource(f"list, row {odd}: has shape {shape}, each row needs ({max(widths[0], 1)},)")
    if all(isinstance(row, np.ndarray) and row.dtype.kind in "biuf" for row in rows):
        return _from_array(np.stack(rows))
    columns = list(zip(*rows, strict=True))
    found = [(str(place), *convert("list", str(place), values)) for place, values in enumerate(columns)]
    return replace(joined("list", found, len(rows)), named=False)


def _from_array(array: npt.NDArray[Any]) -> Rows:
    if array.ndim != 2:
        raise BadSource(f"an array of shape {array.shape} is no table; give (n, d): rows and columns")
    if array.dtype.names:
        raise BadSource("an array of records is no table; give a frame")
    if array.dtype.kind in "biuf":
        return of_numbers(array if array.dtype.kind == "f" else array.astype(np.float64))
    if array.dtype.kind in "OUS":
        return _from_list(array.tolist())
    raise BadSource(f"an array of {array.dtype} holds no numbers; convert it")


def _values(name: str, store: Store, key: str, value: PerRow) -> Sequence[Any] | npt.NDArray[Any] | None:
    """One value a row: from a column, or as given."""
    if value is None:
        return None
    if not isinstance(value, str):
        if len(value) != len(store):
            raise ValueError(f"{len(value)} {key} for {len(store)} rows")
        return value
    place = _place(name, store, value)
    column = store.columns[place]
    before = sum(other.is_number == column.is_number for other in store.columns[:place])
    rows = store.take(slice(None))
    return rows.numbers[:, before] if column.is_number else rows.words[:, before]


def _place(name: str, store: Store, column: str) -> int:
    for place, known in enumerate(store.columns):
        if known.name == column:
            return place
    there = ", ".join(known.name for known in store.columns[:12])
    raise BadSource(f"{name}: has no column {column!r}; it has {there}")


def _labels(name: str, given: Sequence[Any] | npt.NDArray[Any] | None, count: int) -> npt.NDArray[np.int8]:
    if given is None:
        return np.full(count, -1, np.int8)
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadSource(f"{name}: labels are 0 normal, 1 anomalous or -1 unknown, not words") from None
    known = np.isin(values, (-1, 0, 1)) | np.isnan(values)
    if not known.all():
        raise ValueError(f"labels are 0 normal, 1 anomalous or -1 unknown, got {values[~known][0]:g}")
    return np.where(np.isnan(values), -1, values).astype(np.int8)


def _names(given: Sequence[Any] | npt.NDArray[Any] | None) -> npt.NDArray[np.object_] | None:
    if given is None:
        return None
    names: npt.NDArray[np.object_] = np.empty(len(given), object)
    names[:] = [None if value is None else str(value) for value in given]
    return names


class _Chosen:
    """A store with columns left out, or of another kind."""

    def __init__(self, store: Store, kept: Sequence[int], columns: tuple[Column, ...]) -> None:
        self.columns = columns
        self.named = store.named
        self._store = store
        self._kept = kept
        places: list[int] = []
        counts = [0, 0]
        for column in store.columns:
            places.append(counts[column.is_number])
            counts[column.is_number] += 1
        self._places = places

    def __len__(self) -> int:
        return len(self._store)

    def take(self, positions: Positions) -> Rows:
        """The rows of these positions."""
        rows = self._store.take(positions)
        numbers, words = [], []
        for place, column in zip(self._kept, self.columns, strict=True):
            if rows.columns[place].is_number:
                values = rows.numbers[:, self._places[place]]
                if column.is_number:
                    numbers.append(values)
                else:
                    words.append(np.array([None if v != v else f"{v:.17g}" for v in values], object))
            else:
                words.append(rows.words[:, self._places[place]])
        return Rows(
            self.columns,
            np.column_stack(numbers) if numbers else np.empty((len(rows), 0)),
            np.column_stack(words) if words else np.empty((len(rows), 0), object),
            self.named,
        )


def _changed(name: str, store: Store, drop: set[str], kinds: Mapping[str, Kind]) -> Store:
    for asked in (*drop, *kinds):
        _place(name, store, asked)
    kept: list[int] = []
    columns: list[Column] = []
    for place, column in enumerate(store.columns):
        if column.name in drop:
            continue
        kind = kinds.get(column.name, column.kind)
        if kind not in KINDS:
            raise ValueError(f"kinds: {column.name} is to be {kind!r}; kinds are {', '.join(KINDS)}")
        if kind in ("number", "date") and not column.is_number:
            raise BadSource(f"{name}, column {column.name!r}: holds words, which are no {kind}")
        kept.append(place)
        columns.append(Column(column.name, kind))
    return _Chosen(store, kept, tuple(columns))
