"""Pages of the table suite: measures by set, mean ranks, verdicts, cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.bench.critical_difference import critical_difference_svg
from offnominal.bench.machine import header, mean
from offnominal.bench.tables import Record, by_set, labels_of, protocols, values_of
from offnominal.core.store import write_text
from offnominal.metrics import compare_ranks
from offnominal.report import Column, csv_text, markdown_table

KEYS = [
    "set",
    "seed",
    "label",
    "train",
    "test",
    "columns",
    "anomalous",
    "auroc",
    "ap",
    "f1",
    "rate",
    "false_alarm_rate",
    "recall",
    "fit_s",
    "score_s",
]
MEASURES = {
    "auroc": "AUROC",
    "ap": "Average precision",
    "f1": "F1 where as many rows are called anomalous as there are anomalies",
}
EXPLANATION = """\
Each cell is the mean over the seeds in per cent, ± the standard deviation over them where there are several
seeds. Parameters are the defaults, the same for all sets. Nothing is told which training rows are anomalous.
"""


def write_table_pages(records: Sequence[Record], out: str | os.PathLike[str]) -> list[Path]:
    """Write ``table.csv`` (a row a run), ``table.md`` and pictures of the ranks into a folder.

    Runs of a limited number of rows stay out of the page unless there are no others.
    """
    folder = Path(out)
    whole = [record for record in records if record.get("limit") is None] or list(records)
    write_text(folder / "table.csv", csv_text([*records], KEYS))
    written = [folder / "table.csv", folder / "table.md"]
    ranks = ""
    for key in ("auroc", "ap"):
        names, results = complete(whole, key)
        if len(names) < 2 or len(results) < 2:
            continue
        found = compare_ranks(results)
        picture = folder / f"table_ranks_{key}.svg"
        title = f"Mean ranks by {MEASURES[key]}"
        write_text(picture, critical_difference_svg(names, found, title))
        written.append(picture)
        rows = [
            {"detector": name, "rank": rank, "mean": 100 * value}
            for name, rank, value in zip(names, found.mean_ranks, results.mean(axis=0), strict=True)
        ]
        rows.sort(key=lambda row: row["rank"])
        columns: list[str | Column] = [
            "detector",
            Column("rank", "mean rank", 2),
            Column("mean", f"mean {MEASURES[key]}, %", 2),
        ]
        ranks += f"\n## {title}\n\n![{title}]({picture.name})\n\n{markdown_table(rows, columns)}"
        ranks += (
            f"\n{len(results)} sets. Friedman's test: χ² = {found.statistic:.1f}, p = {found.p_value:.2g}; "
            f"mean ranks further apart than {found.critical_difference:.2f} differ at 5 % (Nemenyi).\n"
        )
    text = header(
        "Vector detectors on real tables",
        ["offnominal bench table --data DIR --out results"],
        [record["machine"] for record in whole],
    )
    seeds = sorted({record["seed"] for record in whole})
    text += f"Seeds: {', '.join(map(str, seeds))}. {EXPLANATION}"
    limits = [record["limit"] for record in whole if record.get("limit") is not None]
    if limits:
        text += f"\n**A quick look only:** at most {max(limits)} rows a part.\n"
    text += ranks
    for key, title in MEASURES.items():
        text += f"\n## {title}\n\n{by_set(whole, key)}"
    text += f"\n## Verdicts and cost\n\n{verdicts_and_cost(whole)}\n{protocols(whole)}"
    write_text(folder / "table.md", text)
    return written


def complete(records: Sequence[Record], key: str) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Means over seeds (sets, detectors) of a measure, over the sets on which every detector was run."""
    labels = labels_of(records)
    rows = []
    for name in sorted({record["set"] for record in records}):
        of_set = [record for record in records if record["set"] == name]
        row = [
            mean(values_of([entry for entry in of_set if entry["label"] == label], key)) for label in labels
        ]
        if np.isfinite(row).all():
            rows.append(row)
    return labels, np.array(rows)


def verdicts_and_cost(records: Sequence[Record]) -> str:
    """Mean false-alarm rate and recall over sets; median and total seconds."""
    rows: list[dict[str, Any]] = []
    for label in labels_of(records):
        there = [record for record in records if record["label"] == label]
        fit, score = values_of(there, "fit_s"), values_of(there, "score_s")
        rows.append(
            {
                "detector": label,
                "runs": len(there),
                "asked": mean(values_of(there, "rate")),
                "false_alarms": mean(values_of(there, "false_alarm_rate")),
                "recall": mean(values_of(there, "recall")),
                "fit": float(np.median(fit)),
                "score": float(np.median(score)),
                "total": float(np.nansum(fit) + np.nansum(score)),
            }
        )
    columns: list[str | Column] = [
        "detector",
        "runs",
        Column("asked", percent=True),
        Column("false_alarms", "false alarms", percent=True),
        Column("recall", percent=True),
        Column("fit", "fit s", 3),
        Column("score", "score s", 3),
        Column("total", "all runs s", 1),
    ]
    return markdown_table(rows, columns) + (
        "\nMeans over all runs; seconds are medians, of which the fit holds the calibration of the decision. "
        "Anomalies among the training rows make the decision stricter than what was asked.\n"
    )
