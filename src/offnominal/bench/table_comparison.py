"""Each vector detector beside the peer's version of it, over all sets both were run on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.bench.critical_difference import critical_difference_svg
from offnominal.bench.machine import header, mean
from offnominal.bench.runner import Record
from offnominal.bench.table_pages import complete
from offnominal.bench.tables import values_of
from offnominal.core.seeds import generator
from offnominal.core.store import write_text
from offnominal.metrics import compare_ranks
from offnominal.report import Column, csv_text, markdown_table

PEER, UNSCALED = "pyod ", " unscaled"
MEASURES = {"auroc": "AUROC", "ap": "Average precision", "f1": "F1"}
MARGIN = 0.01
"""A difference smaller than this on a set counts as none."""
RESAMPLES = 2_000

EXPLANATION = f"""\
ADBench's splits, default parameters on both sides; `… unscaled` is ours on the columns as the peer sees them,
scaled to the training rows' range and no further. For each detector and set the values are means over seeds.
`difference` is ours less theirs in points, averaged over sets; `lower` and `upper` bound that average at 95 %
(bootstrap over sets). `better` and `worse` count sets on which the two differ by more than {100 * MARGIN:g}
point and by more than twice the standard error over seeds; `holds` says that the upper bound is not below 0.
"""

COLUMNS = ("set", "detector", "peer", "measure", "seeds", "ours", "theirs", "difference", "noise")


def compare(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Rows of ours beside the peer: a row a set, detector and measure.

    ``noise`` is twice the standard error over seeds of the difference; NaN under one seed.
    """
    by_run = {(record["set"], record["label"], record["seed"]): record for record in records}
    labels = list(dict.fromkeys(record["label"] for record in records))
    rows = []
    for name in sorted({record["set"] for record in records}):
        for label in labels:
            peer = PEER + label.removesuffix(UNSCALED)
            seeds = [
                seed
                for (of, who, seed) in by_run
                if of == name and who == label and (name, peer, seed) in by_run
            ]
            if label.startswith(PEER) or not seeds:
                continue
            ours, theirs = ([by_run[name, who, seed] for seed in seeds] for who in (label, peer))
            for key in MEASURES:
                a, b = values_of(ours, key), values_of(theirs, key)
                apart = a - b
                noise = 2 * float(apart.std(ddof=1)) / len(apart) ** 0.5 if len(apart) > 1 else np.nan
                rows.append(
                    {
                        "set": name,
                        "detector": label,
                        "peer": peer,
                        "measure": key,
                        "seeds": len(seeds),
                        "ours": mean(a),
                        "theirs": mean(b),
                        "difference": mean(apart),
                        "noise": noise,
                    }
                )
    return rows


def summary(rows: Sequence[dict[str, Any]], measure: str) -> list[dict[str, Any]]:
    """A row a detector, over sets."""
    found = []
    for label in dict.fromkeys(row["detector"] for row in rows):
        there = [row for row in rows if row["detector"] == label and row["measure"] == measure]
        apart = values_of(there, "difference")
        clear = np.maximum(np.nan_to_num(values_of(there, "noise")), MARGIN)
        lower, upper = _bounds(apart)
        worst = there[int(np.argmin(apart))]
        found.append(
            {
                "detector": label,
                "sets": len(there),
                "ours": 100 * mean(values_of(there, "ours")),
                "theirs": 100 * mean(values_of(there, "theirs")),
                "difference": 100 * mean(apart),
                "lower": 100 * lower,
                "upper": 100 * upper,
                "better": int((apart > clear).sum()),
                "worse": int((apart < -clear).sum()),
                "holds": upper >= 0,
                "worst": f"{worst['set'].split('/')[-1]} {100 * worst['difference']:+.1f}",
            }
        )
    return found


def _bounds(apart: npt.NDArray[np.float64]) -> tuple[float, float]:
    drawn = generator(0, "bench", "sets").integers(0, len(apart), (RESAMPLES, len(apart)))
    lower, upper = np.quantile(apart[drawn].mean(axis=1), [0.025, 0.975])
    return float(lower), float(upper)


def write_table_comparison(records: Sequence[Record], out: str | os.PathLike[str]) -> list[Path]:
    """Write ``table_peer.csv``, ``table_peer.md`` and a picture of the ranks of both sides into a folder."""
    whole = [record for record in records if record.get("limit") is None] or list(records)
    rows = compare(whole)
    folder = Path(out)
    written = [folder / "table_peer.csv", folder / "table_peer.md"]
    text = header(
        "Vector detectors beside PyOD",
        [
            "python benchmarks/table_accuracy.py --data DIR --out results \\",
            "    --peer-python FOLDER/venv/bin/python",
        ],
        [record["machine"] for record in whole],
    )
    peers = {
        f"{name} {number}" for record in whole for name, number in record.get("peer_versions", {}).items()
    }
    text += f"{EXPLANATION}\nThe peer: {', '.join(sorted(peers))}.\n"
    if any(record.get("limit") is not None for record in whole):
        text += "\n**A quick look only:** a limited number of rows a part.\n"
    columns: list[str | Column] = ["detector", "sets"]
    columns += [Column(key, key, 2) for key in ("ours", "theirs", "difference", "lower", "upper")]
    columns += ["better", "worse", "holds", Column("worst", "worst set")]
    for key, title in MEASURES.items():
        if rows:
            text += f"\n## {title}\n\n{markdown_table(summary(rows, key), columns)}"
    both = [record for record in whole if not record["label"].endswith(UNSCALED)]
    names, results = complete(both, "auroc")
    if len(names) > 1 and len(results) > 1:
        ranks = compare_ranks(results)
        picture = folder / "table_peer_ranks.svg"
        title = "Mean ranks by AUROC, ours and PyOD's"
        write_text(picture, critical_difference_svg(names, ranks, title))
        written.append(picture)
        text += "\n## Mean ranks\n\nOver the sets on which every detector finished.\n"
        text += f"\n![{title}]({picture.name})\n"
    text += f"\n## Seconds\n\n{_cost(whole)}"
    write_text(folder / "table_peer.csv", csv_text(rows, COLUMNS))
    write_text(folder / "table_peer.md", text)
    return written


def _cost(records: Sequence[Record]) -> str:
    rows = []
    for label in dict.fromkeys(record["label"] for record in records):
        there = [record for record in records if record["label"] == label]
        each = {key: values_of(there, key) for key in ("fit_s", "score_s")}
        rows.append(
            {
                "detector": label,
                "runs": len(there),
                "fit": float(np.median(each["fit_s"])),
                "score": float(np.median(each["score_s"])),
                "total": float(each["fit_s"].sum() + each["score_s"].sum()),
            }
        )
    columns: list[str | Column] = [
        "detector",
        "runs",
        Column("fit", "fit s", 3),
        Column("score", "score s", 3),
        Column("total", "all runs s", 1),
    ]
    return markdown_table(rows, columns) + (
        "\nMedians over runs; the peer's are processor seconds. Our fit holds the calibration of the "
        "decision; `speed_table.md` compares times.\n"
    )
