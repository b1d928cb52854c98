"""Tables in files: CSV and its kin, Parquet, Arrow IPC, JSON lines; through Polars."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from offnominal.core.errors import BadSource
from offnominal.data.tables import csv_fault
from offnominal.data.tables.frames import from_polars, polars
from offnominal.data.tables.limits import TableLimits
from offnominal.data.tables.rows import Positions, Rows

TEXT = (".csv", ".tsv", ".txt", ".data")
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
LINES = (".jsonl", ".ndjson")
SUFFIXES = (*TEXT, *PARQUET, *ARROW, *LINES)
MISSING = ["", "NA", "N/A", "n/a", "na", "NaN", "nan", "NULL", "null", "None", "?", "-"]
_LOOK = 10_000  # rows by which the types of a text file's columns are told


def read_file(path: str, limits: TableLimits) -> Rows | ParquetRows:
    """Rows of a file.

    Raises
    ------
    BadSource
        It is missing, too large, not of a known form, or broken; says in which line and column.
    ExtraMissing
        Polars is not installed.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise BadSource(f"{path}: not called like a table; tables end in {', '.join(SUFFIXES)}")
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise BadSource(f"{path}: cannot be read ({error.strerror or error})") from error
    if size == 0:
        raise BadSource(f"{path}: the file is empty (0 bytes)")
    if suffix not in PARQUET and size > limits.max_bytes:
        raise BadSource(
            f"{path}: {size:,} bytes, at most {limits.max_bytes:,} are read; store it as Parquet, "
            "which is read in pieces"
        )
    pl = polars(f"{suffix} files")
    try:
        if suffix in PARQUET:
            return _parquet(path, pl, limits)
        if suffix in ARROW:
            return from_polars(pl.read_ipc(path), path)
        if suffix in LINES:
            return from_polars(pl.read_ndjson(path, infer_schema_length=None), path)
        return _text(path, pl, "\t" if suffix == ".tsv" else csv_fault.sniff(path))
    except BadSource:
        raise
    except Exception as error:  # polars raises many kinds, Rust panics among them
        raise BadSource(
            f"{path}: not a whole {suffix} file ({str(error).strip().splitlines()[0]})"
        ) from error


def _text(path: str, pl: Any, delimiter: str) -> Rows:
    asked = {
        "separator": delimiter,
        "null_values": MISSING,
        "try_parse_dates": True,
        "infer_schema_length": _LOOK,
    }
    try:
        frame = pl.read_csv(path, **asked)
    except Exception as error:
        first = csv_fault.fault(path, delimiter, error)
        try:
            expected = pl.scan_csv(path, **asked).collect_schema()
            words = pl.read_csv(path, **{**asked, "infer_schema_length": 0, "try_parse_dates": False})
        except Exception:
            raise first from error
        raise csv_fault.unparsed(path, words, expected) or first from error
    if not len(frame):
        raise BadSource(f"{path}: has a header and no row")
    return from_polars(frame, path)


def _parquet(path: str, pl: Any, limits: TableLimits) -> Rows | ParquetRows:
    schema = pl.read_parquet_schema(path)
    if len(schema) > limits.max_columns:
        raise BadSource(f"{path}: {len(schema):,} columns, at most {limits.max_columns:,} are read")
    count = int(pl.scan_parquet(path).select(pl.len()).collect().item())
    if not count:
        raise BadSource(f"{path}: has columns and no row")
    if count * len(schema) * 8 <= limits.held:
        return from_polars(pl.read_parquet(path), path)
    return ParquetRows(path, count)


class ParquetRows:
    """Rows of a Parquet file too large to hold, read in spans; the last span stays in memory.

    Parameters
    ----------
    path : str
    count : int
        Rows of the file.
    """

    span = 1 << 16

    def __init__(self, path: str, count: int) -> None:
        self._path = path
        self._count = count
        self._lock = threading.Lock()
        self._held: tuple[int, Rows] | None = None
        first = self._load(0)
        self.columns, self.named = first.columns, True

    def __len__(self) -> int:
        return self._count

    def _load(self, number: int) -> Rows:
        with self._lock:
            if self._held is None or self._held[0] != number:
                import polars as pl

                part = pl.scan_parquet(self._path).slice(number * self.span, self.span).collect()
                rows = from_polars(part, self._path)
                if self._held is not None:  # few words may look like categories in one span, text in another
                    rows = Rows(self.columns, rows.numbers, rows.words)
                self._held = (number, rows)
            return self._held[1]

    def take(self, positions: Positions) -> Rows:
        """The rows of these positions; ascending ones read each span once."""
        wanted = np.arange(self._count)[positions] if isinstance(positions, slice) else np.asarray(positions)
        spans = wanted // self.span
        numbers = np.empty((len(wanted), sum(column.is_number for column in self.columns)))
        words = np.empty((len(wanted), len(self.columns) - numbers.shape[1]), object)
        for number in np.unique(spans):
            here = np.flatnonzero(spans == number)
            rows = self._load(int(number))
            inside = wanted[here] - number * self.span
            numbers[here], words[here] = rows.numbers[inside], rows.words[inside]
        return Rows(self.columns, numbers, words)
