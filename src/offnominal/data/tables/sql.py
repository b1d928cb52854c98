"""Tables that are the answer to a query."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from offnominal.core.errors import BadSource, ExtraMissing
from offnominal.data.tables.frames import from_polars, polars
from offnominal.data.tables.rows import Rows, joined
from offnominal.data.tables.values import convert

_CELLS = 1 << 28


@dataclass(frozen=True, slots=True)
class Sql:
    """A query and where to ask it.

    Parameters
    ----------
    url : str
        ``sqlite:///path/to/file.db`` (or the bare path), read with the standard library; other URLs go
        through Polars and the driver it asks for.
    query : str
        What to ask; its answer's columns are the table's.
    """

    url: str
    query: str

    @property
    def name(self) -> str:
        """The database without what a URL may hold of users and passwords."""
        scheme, sign, rest = self.url.partition("://")
        return f"{scheme}{sign}{rest.rpartition('@')[2]}" if sign else self.url


def read_sql(asked: Sql) -> Rows:
    """Rows that answer a query.

    Raises
    ------
    BadSource
        The database or the query cannot be used.
    ExtraMissing
        The driver for this kind of database is not installed.
    """
    scheme, sign, rest = asked.url.partition("://")
    if sign and scheme != "sqlite":
        return _through_polars(asked)
    import sqlite3

    path = rest.removeprefix("/") if sign else asked.url
    if not os.path.isfile(path):
        raise BadSource(f"{asked.name}: no such database file")
    try:
        # Read-only, so that a query can change nothing.
        with contextlib.closing(sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True)) as connection:
            cursor = connection.execute(asked.query)
            names = [column[0] for column in cursor.description or ()]
            if not names:
                raise BadSource(f"{asked.name}: the query gives no table; ask with SELECT")
            most = max(1, _CELLS // len(names))
            answer = cursor.fetchmany(most + 1)
    except sqlite3.Error as error:
        raise BadSource(f"{asked.name}: {error}") from error
    if len(answer) > most:
        raise BadSource(f"{asked.name}: more than {most:,} rows; add a LIMIT, or export to Parquet")
    if not answer:
        raise BadSource(f"{asked.name}: the query gives no row")
    columns = list(zip(*answer, strict=True))
    found = [(name, *convert(asked.name, name, values)) for name, values in zip(names, columns, strict=True)]
    return joined(asked.name, found, len(answer))


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path).replace(os.sep, "/"))


def _through_polars(asked: Sql) -> Rows:
    package = polars("databases")
    try:
        frame = package.read_database_uri(asked.query, asked.url)
    except ImportError as error:
        raise ExtraMissing(
            "table", f"{asked.name}: {str(error).splitlines()[0]}; this kind of database"
        ) from error
    except Exception as error:  # drivers raise what they like
        raise BadSource(f"{asked.name}: {str(error).strip().splitlines()[0]}") from error
    if not len(frame):
        raise BadSource(f"{asked.name}: the query gives no row")
    return from_polars(frame, asked.name)
