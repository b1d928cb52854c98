"""Rows of results as Markdown, as CSV and on a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO, TypeGuard

import numpy as np

NOTHING = "–"
"""What stands for a value that is not there: None and NaN, in tables people read."""


UNBOUNDED = 1 << 14


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    key : str
        Which value of a row it shows.
    heading : str, optional
        What stands above it; the key, with spaces for underscores, by default.
    digits : int, optional
        Decimals of its numbers; by default four significant digits.
    percent : bool
        Whether numbers are shares, shown as percentages (CSV keeps the share).
    """

    key: str
    heading: str | None = None
    digits: int | None = None
    percent: bool = False

    @property
    def title(self) -> str:
        """What stands above the column."""
        return self.key.replace("_", " ") if self.heading is None else self.heading

    def text(self, row: Mapping[str, Any]) -> str:
        """The row's value as people read it."""
        value = row.get(self.key)
        if self.percent and is_number(value):
            return f"{100 * value:.{1 if self.digits is None else self.digits}f} %"
        return number(value, self.digits) if is_number(value) else _words(value)


Columns = Sequence[str | Column]


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number; truth values are not."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return math.isfinite(float(value))


def number(value: float, digits: int | None = None) -> str:
    """Write a number for people.

    Parameters
    ----------
    value : int or float
    digits : int, optional
        Decimals. By default whole numbers have none and others four significant digits, with an exponent
        only below 1e-4 and from 1e6.
    """
    if not math.isfinite(value):
        return NOTHING if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if isinstance(value, int | np.integer):
        return str(int(value))
    if digits is not None:
        return f"{value:.{digits}f}"
    size = abs(value)
    if value == 0:
        return "0"
    if size < 1e-4 or size >= 1e6:
        return f"{value:.3g}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(size)))}f}"


def cell_text(value: Any) -> str:
    """Write a value of a user's table as they would: six significant digits, whole numbers whole."""
    if value is None:
        return ""
    if isinstance(value, float):
        if not math.isfinite(value):
            return number(value)
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return str(value)


def markdown_table(rows: Iterable[Mapping[str, Any]], columns: Columns) -> str:
    """Write rows as a Markdown table (GitHub's form), padded so that it also reads as plain text.

    Parameters
    ----------
    rows : iterable of mappings
        Values by column key; a key that is not there is an empty place.
    columns : sequence of str or Column

    Returns
    -------
    str
        Ends with a line break. Cell texts show as they are: Markdown and HTML signs in them are escaped.
    """
    rows, wanted = list(rows), _columns(columns)
    right = [_is_numeric(rows, column) for column in wanted]
    cells = [[_markdown(column.title) for column in wanted]]
    cells += [[_markdown(column.text(row)) for column in wanted] for row in rows]
    widths = [max(3, *(len(line[place]) for line in cells)) for place in range(len(wanted))]
    rule = ["-" * (width - 1) + (":" if flush else "-") for width, flush in zip(widths, right, strict=True)]

    def padded(line: list[str]) -> list[str]:
        return [
            text.rjust(width) if flush else text.ljust(width)
            for text, width, flush in zip(line, widths, right, strict=True)
        ]

    lines = [padded(cells[0]), rule, *(padded(line) for line in cells[1:])]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Columns) -> str:
    """Write rows as CSV (RFC 4180, line feeds as line ends), numbers in full precision.

    None and NaN are empty places, truth values ``true`` and ``false``. Texts a spreadsheet would run as a
    formula (they begin with ``=``, ``+``, ``-``, ``@``, a tab or a line break) get a ``'`` in front.

    Parameters
    ----------
    rows : iterable of mappings
    columns : sequence of str or Column
        The keys are the headings, so that programs find them whatever people read.
    """
    wanted = _columns(columns)
    lines = [[_plain(column.key) for column in wanted]]
    lines += [[_plain(row.get(column.key)) for column in wanted] for row in rows]
    return "".join(",".join(line) + "\n" for line in lines)


def print_table(
    rows: Iterable[Mapping[str, Any]],
    columns: Columns,
    *,
    title: str | None = None,
    file: TextIO | None = None,
) -> None:
    """Print rows as a table on a terminal, fitted to its width.

    Parameters
    ----------
    rows : iterable of mappings
    columns : sequence of str or Column
    title : str, optional
        Stands above the table.
    file : text stream, optional
        Where to print; standard output by default.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows, wanted = list(rows), _columns(columns)
    table = Table(
        title=None if title is None else Text(visible(title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for column in wanted:
        table.add_column(
            Text(visible(column.title)),
            justify="right" if _is_numeric(rows, column) else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(visible(column.text(row))) for column in wanted))
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = UNBOUNDED  # a pipe or a file has no width: rows stay on one line each, for grep
    console.print(table)


def visible(text: str) -> str:
    r"""Text with control and direction signs shown as ``\u…``: a file's name cannot steer the terminal."""
    return _UNSAFE.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)


_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")


def _columns(columns: Columns) -> list[Column]:
    return [Column(column) if isinstance(column, str) else column for column in columns]


def _is_numeric(rows: Sequence[Mapping[str, Any]], column: Column) -> bool:
    values = [row.get(column.key) for row in rows]
    there = [value for value in values if value is not None]
    return bool(there) and all(
        isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        for value in there
    )


def _words(value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return NOTHING
    if isinstance(value, float | np.floating):
        return number(float(value))
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return str(value)


def _markdown(text: str) -> str:
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(lambda sign: f"\\{sign[0]}", text)


def _plain(value: Any) -> str:
    """A value as it stands in CSV, quoted where it must be."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | float | np.integer | np.floating):
        return repr(value.item() if isinstance(value, np.generic) else value)
    text = str(value)
    if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        text = f"'{text}"
    # The standard writer leaves a lone carriage return bare, which other readers take for a line end.
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text
