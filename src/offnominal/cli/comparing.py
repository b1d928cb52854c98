"""A row beside normal rows, for people and machines: ``offnominal explain --normal``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offnominal.cli.console import Console
from offnominal.core.source import Source

if TYPE_CHECKING:
    from offnominal.data.tables import Rows
    from offnominal.detector import Detector

NEAR = 3
"""Normal rows that are shown."""
COLUMNS = 8
"""Columns of them that are shown: those in which they differ most from the row."""


def compare(console: Console, detector: Detector, row: Source, normal: str) -> dict[str, Any]:
    """Say which normal rows are nearest to a row, and what would make it normal.

    Parameters
    ----------
    console : Console
    detector : TableDetector
    row : TableSource
        One row.
    normal : str
        Source of normal rows, as the command line names it.

    Returns
    -------
    dict
        ``nearest``: list of item, distance, values; ``counterfactual``: changes, score, like, or None.
    """
    from offnominal.cli.opening import open_items
    from offnominal.core.errors import NoDecisionError
    from offnominal.report import Column
    from offnominal.report.table import cell_text
    from offnominal.table.counterfactual import DONORS, counterfactual
    from offnominal.table.nearest_rows import nearest_rows

    normals = open_items(normal, detector.card.modality)
    near = nearest_rows(detector, row, normals, DONORS)  # type: ignore[arg-type]
    values = [named(near.rows, at) for at in range(len(near.items))]
    own = named(near.row, 0)
    shown = [name for name in own if any(each[name] != own[name] for each in values[:NEAR])][:COLUMNS]
    lines: list[dict[str, Any]] = [{"row": "this row", **{name: cell_text(own[name]) for name in shown}}]
    lines += [
        {"row": item, "distance": distance, **{name: cell_text(each[name]) for name in shown}}
        for item, distance, each in zip(near.items[:NEAR], near.distances.tolist(), values, strict=False)
    ]
    headings = [Column("row"), Column("distance", digits=2), *(Column(name) for name in shown)]
    console.table(lines, headings, title="The nearest normal rows, in the columns that differ")
    told: dict[str, Any] = {
        "nearest": [
            {"item": item, "distance": distance, "values": each}
            for item, distance, each in zip(near.items, near.distances.tolist(), values, strict=True)
        ]
    }
    try:
        found = counterfactual(detector, row, normals, near)  # type: ignore[arg-type]
    except NoDecisionError as error:
        console.say(str(error))
        return told | {"counterfactual": None}
    if found is None:
        console.say("No change towards a near normal row makes it normal.")
        return told | {"counterfactual": None}
    changes = [
        {
            "column": change.column,
            "value": own[change.column],
            "becomes": spoken(detector, change.column, change.becomes),
        }
        for change in found.changes
    ]
    if not changes:
        console.say("It is normal as it is.")
    else:
        console.table(
            [{name: cell_text(value) for name, value in change.items()} for change in changes],
            [Column("column"), Column("value", "is"), Column("becomes", "would be normal at")],
            title=f"The smallest change found, towards row {found.like}",
        )
    return told | {"counterfactual": {"changes": changes, "score": found.score, "like": found.like}}


def named(rows: Rows, at: int) -> dict[str, Any]:
    """Values of a row by the names of its columns; dates as text, None where one is missing."""
    import numpy as np

    numbers, words = iter(rows.numbers[at].tolist()), iter(rows.words[at].tolist())
    values: dict[str, Any] = {}
    for column in rows.columns:
        value = next(numbers if column.is_number else words)
        if column.kind == "date" and value == value:
            value = str(np.datetime64(round(1e3 * value), "ms"))
        values[column.name] = None if value != value else value
    return values


def spoken(detector: Detector, column: str, value: Any) -> Any:
    """A value as `named` says it."""
    import numpy as np

    kinds = {each.name: each.kind for each in detector.encoding.columns}  # type: ignore[attr-defined]
    if kinds[column] == "date" and value is not None:
        return str(np.datetime64(round(1e3 * value), "ms"))
    return value
