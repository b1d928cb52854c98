"""Where a CSV file is broken: found by reading it again, slowly, once it has failed."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping
from typing import Any

from offnominal.core.errors import BadSource

_FIELD = 1 << 20


def fault(path: str, delimiter: str, error: Exception) -> BadSource:
    """The error of a CSV file that could not be read, with its line and column."""
    return (
        _not_text(path) or _uneven(path, delimiter) or BadSource(f"{path}: not a CSV table ({_first(error)})")
    )


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _not_text(path: str) -> BadSource | None:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return BadSource(
                    f"{path}, line {number}: not text in UTF-8 (byte {line[error.start]:#04x} at place "
                    f"{error.start}); save the file as UTF-8"
                )
            if b"\0" in line:
                return BadSource(
                    f"{path}, line {number}: holds a null byte, so it is no text; export it again"
                )
    return None


def _uneven(path: str, delimiter: str) -> BadSource | None:
    csv.field_size_limit(_FIELD)
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        width = 0
        try:
            for fields in reader:
                width = width or len(fields)
                if len(fields) > width:
                    return BadSource(
                        f"{path}, line {reader.line_num}: has {len(fields)} fields, the header {width}; "
                        "mend the line, or quote what holds the delimiter"
                    )
        except csv.Error as error:
            return BadSource(f"{path}, line {reader.line_num}: not CSV ({error})")
    return None


def unparsed(path: str, frame: Any, expected: Mapping[str, Any]) -> BadSource | None:
    """The first value that is not of its column's type.

    Parameters
    ----------
    path : str
    frame : polars.DataFrame
        The file, every column as text.
    expected : mapping of str to polars type
        What the first rows were.
    """
    for column, dtype in expected.items():
        words = frame[column]
        failed = words.cast(dtype, strict=False).is_null() & words.is_not_null()
        if failed.any():
            row = int(failed.arg_max())
            kind = "a number" if dtype.is_numeric() else str(dtype).lower()
            return BadSource(
                f"{path}, row {row} (line {row + 2}), column {column!r}: {words[row]!r} is not {kind}, the "
                "rows before it are; mend it, or leave it empty where it is missing"
            )
    return None


def sniff(path: str) -> str:
    """The delimiter: the one of ``, ; tab |`` that splits the first lines evenly, and most."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = [
            line for line in itertools.islice((file.readline(_FIELD) for _ in itertools.count()), 20) if line
        ]
    best, chosen = 0, ","
    for delimiter in ",;\t|":
        widths = [len(fields) for fields in csv.reader(lines, delimiter=delimiter)] or [1]
        even = widths.count(widths[0]) / len(widths)
        if widths[0] > 1 and even * widths[0] > best:
            best, chosen = even * widths[0], delimiter  # type: ignore[assignment]
    return chosen
