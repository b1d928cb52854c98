"""Tables of finished runs, as CSV for programs and Markdown for people."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offnominal.bench.machine import header, mean
from offnominal.core.store import write_text
from offnominal.report import Column, csv_text, markdown_table

Record = Mapping[str, Any]

KEYS = [
    "set",
    "seed",
    "label",
    "train",
    "test",
    "anomalous",
    "auroc",
    "ap",
    "f1_max",
    "fpr95",
    "pixel_auroc",
    "pixel_ap",
    "aupro",
    "pixel_f1_max",
    "rate",
    "false_alarm_rate",
    "recall",
    "basis",
    "load_s",
    "fit_s",
    "decode_ms",
    "score_ms",
    "detect_ms",
    "fit_mb",
    "peak_mb",
    "model_mb",
]

MEASURES = {
    "auroc": "Image AUROC",
    "ap": "Image average precision",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "Area under PRO, to a false-positive rate of 30 %",
    "f1_max": "Image F1-max",
}

EXPLANATION = """\
Each cell is the mean over the seeds in per cent, ± the standard deviation over them where there are several
seeds. Parameters are the defaults, the same for all sets. Pixel measures compare maps and masks at 256 × 256
pixels: maps as the model makes them at that size, masks by nearest pixel. A dash: the method gives no map, or
the set has no masks.
"""


def write_image_tables(records: Sequence[Record], out: str | os.PathLike[str]) -> list[Path]:
    """Write ``image.csv`` (a row a run) and ``image.md`` (tables over sets) into a folder.

    Runs of a limited number of images stay out of the page unless there are no others.
    """
    folder = Path(out)
    ours = [record for record in records if not record["label"].startswith("anomalib")]
    whole = [record for record in ours if record.get("limit") is None] or ours
    write_text(folder / "image.csv", csv_text([*ours], KEYS))
    write_text(folder / "image.md", image_page(whole))
    return [folder / "image.csv", folder / "image.md"]


def image_page(records: Sequence[Record]) -> str:
    """The page of the image suite."""
    limits = [record["limit"] for record in records if record.get("limit") is not None]
    text = header(
        "Image detectors on real images",
        [
            "offnominal bench image --data DIR --out results",
            "python benchmarks/tables.py results docs/benchmarks",
        ],
        [record["machine"] for record in records],
    )
    seeds = sorted({record["seed"] for record in records})
    text += f"Seeds: {', '.join(map(str, seeds))}. {EXPLANATION}"
    if limits:
        text += f"\n**A quick look only:** at most {max(limits)} images a part.\n"
    for key, title in MEASURES.items():
        text += f"\n## {title}\n\n{by_set(records, key)}"
    text += f"\n## Verdicts at the asked false-alarm rate\n\n{verdicts(records)}"
    return text + f"\n## Cost\n\n{costs(records)}\n{protocols(records)}"


def labels_of(records: Sequence[Record]) -> list[str]:
    """Labels of detectors, in the order in which they come first."""
    return list(dict.fromkeys(record["label"] for record in records))


def values_of(records: Sequence[Record], key: str) -> np.ndarray:
    """Values of a key, NaN where a record has none."""
    return np.array([np.nan if record.get(key) is None else record[key] for record in records], dtype=float)


def spread_text(values: np.ndarray, digits: int = 2) -> str | None:
    """Mean and deviation over seeds in per cent; None where there is nothing."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    text = f"{100 * values.mean():.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {100 * values.std(ddof=1):.{digits}f}"


def by_set(records: Sequence[Record], key: str) -> str:
    """A measure, a row a set and a column a detector, with the mean over sets at the foot."""
    labels = labels_of(records)
    rows: list[dict[str, Any]] = []
    means: dict[str, list[float]] = {}
    for name in sorted({record["set"] for record in records}):
        row: dict[str, Any] = {"set": name}
        for label in labels:
            there = [record for record in records if record["set"] == name and record["label"] == label]
            values = values_of(there, key)
            row[label] = spread_text(values)
            means.setdefault(label, []).append(mean(values))
        if any(row[label] is not None for label in labels):
            rows.append(row)
    if len(rows) > 1:
        foot = {label: spread_text(np.array([mean(values)])) for label, values in means.items()}
        rows.append({"set": "mean of sets", **foot})
    shown = [label for label in labels if any(row[label] is not None for row in rows)]
    if not rows:
        return "No set has it.\n"
    return markdown_table(rows, ["set", *(Column(label, label) for label in shown)])


def verdicts(records: Sequence[Record]) -> str:
    """False-alarm rate and recall of verdicts on official test parts: reported, not gated."""
    rows = []
    for name in sorted({record["set"] for record in records}):
        for label in labels_of(records):
            there = [record for record in records if record["set"] == name and record["label"] == label]
            if there:
                rows.append(
                    {
                        "set": name,
                        "detector": label,
                        "asked": mean(values_of(there, "rate")),
                        "false_alarms": mean(values_of(there, "false_alarm_rate")),
                        "recall": mean(values_of(there, "recall")),
                        "test_normals": there[0]["test"] - there[0]["anomalous"],
                        "basis": " ".join(sorted({record.get("basis") or "none" for record in there})),
                    }
                )
    columns: list[str | Column] = [
        "set",
        "detector",
        Column("asked", percent=True),
        Column("false_alarms", "false alarms", percent=True),
        Column("recall", percent=True),
        Column("test_normals", "test normals"),
        "basis",
    ]
    return markdown_table(rows, columns)


def costs(records: Sequence[Record]) -> str:
    """Seconds, milliseconds and megabytes, medians over seeds."""
    rows = []
    for name in sorted({record["set"] for record in records}):
        for label in labels_of(records):
            there = [record for record in records if record["set"] == name and record["label"] == label]
            if there:
                keys = ("fit_s", "decode_ms", "score_ms", "detect_ms", "peak_mb", "model_mb")
                middle = {key: float(np.median(values_of(there, key))) for key in keys}
                rows.append({"set": name, "detector": label, "train": there[0]["train"], **middle})
    columns: list[str | Column] = [
        "set",
        "detector",
        Column("train", "training images"),
        Column("fit_s", "fit s", 1),
        Column("decode_ms", "decode ms/image", 1),
        Column("score_ms", "model ms/image", 1),
        Column("detect_ms", "from file ms/image", 1),
        Column("peak_mb", "peak memory MB", 0),
        Column("model_mb", "model MB", 1),
    ]
    return markdown_table(rows, columns)


def protocols(records: Sequence[Record]) -> str:
    """How each set is split."""
    found = {record["set"]: record.get("protocol") for record in records}
    return "Splits:\n\n" + "".join(f"- {name}: {text}\n" for name, text in sorted(found.items()) if text)
