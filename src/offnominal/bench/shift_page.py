"""Tables and a page with pictures of a shift benchmark."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offnominal.bench import layouts
from offnominal.bench.machine import mean
from offnominal.bench.tables import labels_of
from offnominal.core.store import write_text
from offnominal.report import Column, csv_text, markdown_table
from offnominal.report.picture import display, picture_uri
from offnominal.synth import CORRUPTIONS, corrupt

Record = dict[str, Any]

SIDE = 200
BYTES = 20_000
WIDTH, HEIGHT = 240, 130
HUES = ("#1f6690", "#c8452c", "#5a8f29", "#8a4fa3", "#b58f33", "#2f8f8f", "#7a5600", "#d06ba0")


def rows_of(records: Sequence[Record]) -> list[Record]:
    """A row a set and detector: AUROC as it is, under each corruption, and what the shift costs."""
    rows = []
    for name in sorted({record["set"] for record in records}):
        for label in labels_of(records):
            there = [record for record in records if (record["set"], record["label"]) == (name, label)]
            if not there:
                continue
            row: Record = {"set": name, "detector": label, "seeds": len(there)}
            row["as_it_is"] = mean([record["auroc"] for record in there])
            for kind in CORRUPTIONS:
                row[kind] = mean(
                    [
                        entry["auroc"]
                        for record in there
                        for key, entry in record["shifted"].items()
                        if key.split()[0] == kind
                    ]
                )
            row["shifted"] = mean([record["shifted_auroc"] for record in there])
            row["loss"] = row["as_it_is"] - row["shifted"]
            alarms = [
                entry["false_alarm_rate"]
                for record in there
                for entry in record["shifted"].values()
                if entry["false_alarm_rate"] is not None
            ]
            row["false_alarms"] = mean(alarms) if alarms else None
            rows.append(row)
    return rows


def write_shift(records: Sequence[Record], data: str | os.PathLike[str], folder: Path) -> list[Path]:
    """Write ``shift.md``, ``shift.csv`` and ``shift.html`` from finished runs.

    Parameters
    ----------
    records : sequence of dict
    data : path
        Folder of the data sets, for the pictures.
    folder : path
        Where they are written.
    """
    rows = rows_of(records)
    columns: list[str | Column] = [
        "set",
        "detector",
        "seeds",
        Column("as_it_is", "as it is", percent=True),
        *(Column(kind, percent=True) for kind in CORRUPTIONS),
        Column("shifted", "shifted, mean", percent=True),
        Column("loss", percent=True),
        Column("false_alarms", "false alarms, shifted", percent=True),
    ]
    text = (
        "# Detection under distribution shift\n\nImage AUROC on the test part as it is and corrupted, means "
        "over severities 1, 3 and 5 and over seeds.\nDetectors are fitted on images as they are.\n\n"
    )
    write_text(folder / "shift.md", text + markdown_table(rows, columns))
    write_text(folder / "shift.csv", csv_text(rows, list(rows[0])))
    write_text(folder / "shift.html", _page(records, rows, data))
    return [folder / "shift.md", folder / "shift.csv", folder / "shift.html"]


def _page(records: Sequence[Record], rows: list[Record], data: str | os.PathLike[str]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    labels = labels_of(records)
    sets = []
    for name in sorted({record["set"] for record in records}):
        there = [record for record in records if record["set"] == name]
        charts = [{"kind": kind, "lines": _lines(there, labels, kind)} for kind in CORRUPTIONS]
        sets.append(
            {
                "name": name,
                "rows": [row for row in rows if row["set"] == name],
                "charts": charts,
                "pictures": _pictures(name, data),
            }
        )
    environment = Environment(
        loader=PackageLoader("offnominal.bench"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    colours = dict(zip(labels, HUES * (len(labels) // len(HUES) + 1), strict=False))
    return environment.get_template("shift.html").render(
        sets=sets, kinds=CORRUPTIONS, colours=colours, width=WIDTH, height=HEIGHT
    )


def _lines(records: Sequence[Record], labels: Sequence[str], kind: str) -> list[dict[str, str]]:
    """Polylines of AUROC (.4 to 1) against severity, a detector each."""
    lines = []
    for label in labels:
        there = [record for record in records if record["label"] == label]
        if not there:
            continue
        points = {0: mean([record["auroc"] for record in there])}
        for key in there[0]["shifted"]:
            name, severity = key.split()
            if name == kind:
                points[int(severity)] = mean([record["shifted"][key]["auroc"] for record in there])
        at = [
            f"{10 + x / 5 * (WIDTH - 20):.1f},{10 + (1 - max(y, 0.4)) / 0.6 * (HEIGHT - 20):.1f}"
            for x, y in sorted(points.items())
        ]
        lines.append({"label": label, "points": " ".join(at)})
    return lines


def _pictures(name: str, data: str | os.PathLike[str]) -> list[dict[str, str]]:
    """An image of the set as it is and under each corruption at severity 3."""
    image = layouts.load(name, Path(data)).test.read(0).value
    shown = [("as it is", image)] + [(kind, corrupt(image, kind, 3)) for kind in CORRUPTIONS]
    return [{"name": kind, "uri": picture_uri(display(found), SIDE, BYTES)} for kind, found in shown]
