"""Maps of rows: what each column adds to a row's score, a line a row in one file beside the records."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from offnominal.core.store import atomic_path
from offnominal.report.table import csv_text

COLUMN_MAPS = "maps.csv"


class ColumnMaps:
    """The file ``maps.csv`` of a folder of results: ``item``, then one number a column of the table.

    Lines are added as rows are scored; `settle` puts them into the source's order. Of an item that was scored
    again the last line counts.

    Parameters
    ----------
    folder : Path
    columns : sequence of str
        The table's columns, as a map's values are ordered.
    """

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self.path = folder / COLUMN_MAPS
        self._columns = list(columns)

    def items(self) -> set[str]:
        """Items whose map is there."""
        return set(self._lines())

    def add(self, item: str, values: npt.NDArray[np.float32]) -> str:
        """Write the map (d,) of an item; returns the file's name."""
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            if not file.tell():
                file.write(self._header())
            file.write(_line(item, [f"{value:.7g}" for value in values.tolist()]))
        return COLUMN_MAPS

    def settle(self, places: Mapping[str, int]) -> None:
        """Keep one whole line an item, in the order of ``places``."""
        lines = self._lines()
        kept = sorted((item for item in lines if item in places), key=places.__getitem__)
        if not kept:
            self.path.unlink(missing_ok=True)
            return
        text = self._header() + "".join(_line(item, lines[item]) for item in kept)
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(text.encode("utf-8"))

    def _header(self) -> str:
        return csv_text([], ["item", *self._columns])

    def _lines(self) -> dict[str, list[str]]:
        """Values by item; a line that a kill cut off has too few."""
        if not self.path.is_file():
            return {}
        with open(self.path, encoding="utf-8", errors="replace", newline="") as file:
            cut = not file.read().endswith("\n")
            file.seek(0)
            rows = list(csv.reader(file))[1:]
        if cut and rows:
            rows.pop()
        return {row[0]: row[1:] for row in rows if len(row) == 1 + len(self._columns)}


def _line(item: str, values: Sequence[str]) -> str:
    name = csv_text([{"item": item}], ["item"]).partition("\n")[2][:-1]
    return ",".join([name, *values]) + "\n"
