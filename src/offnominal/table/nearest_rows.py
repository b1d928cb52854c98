"""The normal rows most like a row, in the model's own scaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadSource
from offnominal.core.seeds import generator
from offnominal.core.source import Source
from offnominal.data.tables import Column, Rows
from offnominal.table.blocks import Matrix, blocks
from offnominal.table.neighbours import Neighbours

if TYPE_CHECKING:
    from offnominal.table.detector import TableDetector

SEARCHED = 200_000
"""Normal rows that are searched, a seeded choice where there are more."""


@dataclass(frozen=True)
class NearRows:
    """Normal rows near a row.

    Attributes
    ----------
    row : Rows
        The row itself, its columns in the model's order.
    matrix : ndarray (1, width)
        The row, encoded.
    items : tuple of k str
        Names of the near rows, the nearest first.
    rows : Rows
        The k near rows.
    distances : ndarray (k,)
        Euclidean, in encoded units: a scaled number's standard deviation (or quartile range) is 1.
    """

    row: Rows
    matrix: Matrix
    items: tuple[str, ...]
    rows: Rows
    distances: npt.NDArray[np.float64]


def nearest_rows(detector: TableDetector, row: Source, normals: Source, k: int = 3) -> NearRows:
    """Find the normal rows nearest to a row.

    Parameters
    ----------
    detector : TableDetector
        Fitted; its encoding and scaling measure the distances.
    row : TableSource
        One row.
    normals : TableSource
        Rows with the same columns, such as those the model was fitted on. Rows labelled anomalous and rows
        that cannot be used are passed over.
    k : int, default 3

    Raises
    ------
    BadItem
        The row cannot be used.
    BadSource
        Other columns than the model's, several rows in place of one, or no normal row that can be used.
    """
    if len(row) != 1:
        raise BadSource(f"{row.name}: one row can be compared at a time, got {len(row)}")
    own, matrix, places = _usable(detector, row, np.array([0]))
    if not len(places):
        raise BadItem(row.references[0].item, "cannot be used by the model", "correct it")
    wanted = np.flatnonzero(normals.labels != 1)  # type: ignore[attr-defined]
    if len(wanted) > SEARCHED:
        chosen = generator(detector.seed, "nearest rows").permutation(len(wanted))[:SEARCHED]
        wanted = wanted[np.sort(chosen)]
    others, bank, places = _usable(detector, normals, wanted)
    if not len(places):
        raise BadSource(f"{normals.name}: no usable normal row to compare with")
    distances, found = Neighbours(bank).search(matrix, min(k, len(bank)))
    return NearRows(
        own,
        matrix,
        tuple(normals.references[int(places[at])].item for at in found[0]),
        others.take(found[0]),
        distances[0],
    )


def encode(detector: TableDetector, rows: Rows) -> tuple[Matrix, dict[int, str]]:
    """Encode rows whose columns are in the model's order; and which cannot be, and why."""
    encoding = detector.encoding
    return encoding.apply(rows, encoding.order(rows.columns, rows.named, "rows"))


def _usable(
    detector: TableDetector, source: Source, positions: npt.NDArray[np.intp]
) -> tuple[Rows, Matrix, npt.NDArray[np.intp]]:
    """Rows that can be used, with their columns in the model's order, their encoding and their positions."""
    encoding = detector.encoding
    columns = tuple(Column(column.name, column.kind) for column in encoding.columns)
    numbers: list[npt.NDArray[np.float64]] = []
    words: list[npt.NDArray[np.object_]] = []
    parts: list[Matrix] = []
    places: list[npt.NDArray[np.intp]] = []
    for block in blocks(source, positions, detector.batch_size, "Comparing"):
        if block.rows is None:
            continue
        order = encoding.order(block.rows.columns, block.rows.named, source.name)
        matrix, bad = encoding.apply(block.rows, order)
        good = np.setdiff1d(np.arange(len(matrix)), list(bad))
        found = block.rows.numbers if order.numbers is None else block.rows.numbers[:, order.numbers]
        numbers.append(np.asarray(found, np.float64)[good])
        words.append(block.rows.words[good][:, np.array(order.words, np.intp)])
        parts.append(matrix[good])
        places.append(block.good[good])
    if not parts:
        empty = Rows(columns, np.empty((0, 0)), np.empty((0, 0), object), encoding.named)
        return empty, np.empty((0, encoding.width)), np.empty(0, np.intp)
    rows = Rows(columns, np.concatenate(numbers), np.concatenate(words), encoding.named)
    return rows, np.concatenate(parts), np.concatenate(places)
