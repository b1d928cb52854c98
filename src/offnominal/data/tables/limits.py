"""What a table may cost before it is refused or read piece by piece."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableLimits:
    """Bounds that are checked before memory is allocated.

    Parameters
    ----------
    max_bytes : int, default 8 GiB
        Bytes of a text file or of a query's answer.
    max_columns : int, default 100 000
    held : int, default 512 MiB
        Bytes of numbers a Parquet file may have to be held in memory; a larger one is read in pieces.
    """

    max_bytes: int = 8 << 30
    max_columns: int = 100_000
    held: int = 512 << 20
