"""Two detectors on the same test images, over several seeds: which is better, beyond chance."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal import metrics
from offnominal.bench.machine import header, mean
from offnominal.bench.runner import Record, scores_path
from offnominal.bench.tables import values_of
from offnominal.core.store import write_text
from offnominal.metrics import Difference
from offnominal.metrics.comparison import Measure
from offnominal.report import Column, csv_text, markdown_table

MARGIN = -0.005
"""A lower bound above this counts as not below the peer: half a point."""

Scored = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
MEASURES = {"auroc": metrics.auroc, "ap": metrics.average_precision}
PIXEL_MEASURES = ("pixel_auroc", "aupro")


def over_seeds(
    ours: Sequence[Scored], theirs: Sequence[Scored], measure: Measure, seed: int = 0
) -> Difference:
    """Bootstrap the difference of a measure, averaged over seeds.

    What is drawn with replacement is the test image. An image stands for its scores under all seeds whose
    test part has it, so that three seeds on one official test part do not count as three test parts.

    Parameters
    ----------
    ours, theirs : sequence of (items, labels, scores)
        One a seed, the same items in both, in any order.
    measure : callable
        ``measure(labels, scores)``.
    seed : int, default 0
        Of the resampling.

    Raises
    ------
    ValueError
        The two were not scored on the same items.
    """
    names = sorted({str(item) for items, _, _ in [*ours, *theirs] for item in items})
    place = {name: at for at, name in enumerate(names)}
    labels = np.zeros(len(names), dtype=np.int64)
    tables = np.full((2, len(ours), len(names)), np.nan)
    for side, runs in enumerate((ours, theirs)):
        for number, (items, known, scores) in enumerate(runs):
            at = np.array([place[str(item)] for item in items])
            labels[at] = known
            tables[side, number, at] = scores
    if len(ours) != len(theirs) or (np.isnan(tables[0]) != np.isnan(tables[1])).any():
        raise ValueError("the two detectors were not scored on the same items")

    def averaged(truth: npt.NDArray[Any], units: npt.NDArray[Any]) -> float:
        # units below len(names) are ours, the others theirs: the bootstrap only ever permutes and repeats
        side, at = divmod(units.astype(np.int64), len(names))
        found = []
        for row in tables[side[0]]:
            there = ~np.isnan(row[at])
            found.append(measure(truth[there], row[at][there]))
        return mean(np.array(found))

    units = np.arange(len(names), dtype=np.float64)
    return metrics.paired_bootstrap(labels, units, units + len(names), averaged, seed=seed)


def read_scores(out: str | os.PathLike[str], key: str) -> Scored:
    """Items, labels and scores of a run."""
    with np.load(scores_path(out, key), allow_pickle=False) as file:
        return file["items"], file["labels"], file["scores"]


def compare(
    records: Sequence[Record], out: str | os.PathLike[str], pairs: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Rows of ours beside the peer: a row a set, pair and measure.

    Parameters
    ----------
    records : sequence of dict
        Finished runs of both sides.
    out : path
        Their folder.
    pairs : mapping
        Our label to the peer's.
    """
    rows = []
    for name in sorted({record["set"] for record in records}):
        for label, peer in pairs.items():
            sides = [_by_seed(records, name, side) for side in (label, peer)]
            seeds = sorted(set(sides[0]) & set(sides[1]))
            if not seeds:
                continue
            ours, theirs = ([side[seed] for seed in seeds] for side in sides)
            scored = [[read_scores(out, record["key"]) for record in side] for side in (ours, theirs)]
            for key in (*MEASURES, *PIXEL_MEASURES):
                values = [mean(values_of(side, key)) for side in (ours, theirs)]
                row: dict[str, Any] = {
                    "set": name,
                    "detector": label,
                    "peer": peer,
                    "measure": key,
                    "seeds": len(seeds),
                    "ours": values[0],
                    "theirs": values[1],
                    "difference": values[0] - values[1],
                }
                if key in MEASURES:
                    found = over_seeds(scored[0], scored[1], MEASURES[key])
                    row |= {"lower": found.lower, "upper": found.upper, "holds": found.lower > MARGIN}
                if np.isfinite(row["difference"]):
                    rows.append(row)
    return rows


def _by_seed(records: Sequence[Record], name: str, label: str) -> dict[int, Record]:
    return {
        record["seed"]: record for record in records if record["set"] == name and record["label"] == label
    }


COLUMNS = (
    "set",
    "detector",
    "peer",
    "measure",
    "seeds",
    "ours",
    "theirs",
    "difference",
    "lower",
    "upper",
    "holds",
)

EXPLANATION = """\
Both sides: the same image files, 256 × 256 pixels, the same encoder weights and levels. `patchcore` has its
default parameters, `patchcore 1 %` a bank of as many rows as the peer's, 1 % of all patches. Values are means
over seeds, in per cent; the difference is in points. `lower` and `upper` bound it at 95 % (two-sided paired
bootstrap over test images, 1000 resamples; an image stands for its scores under all seeds); `holds` says
whether the lower bound is above −0.5 points. Pixel measures are at 256 × 256 on both sides and compared
plainly; the peer's maps pass through half precision on their way into a file.
"""


def write_comparison(
    records: Sequence[Record],
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    pairs: Mapping[str, str],
) -> list[Path]:
    """Write ``image_peer.csv`` and ``image_peer.md`` into ``out``; scores are read from ``source``."""
    # runs of limited and of whole sets are not to be mixed
    whole = [record for record in records if record.get("limit") is None]
    chosen = whole if any(record["label"] in pairs.values() for record in whole) else list(records)
    rows = compare(chosen, source, pairs)
    named = {*pairs, *pairs.values()}
    text = header(
        "Accuracy beside anomalib",
        [
            "python benchmarks/peers/setup.py FOLDER",
            "python benchmarks/image_accuracy.py --data DIR --out results \\",
            "    --peer-python FOLDER/venv/bin/python",
            "python benchmarks/tables.py results docs/benchmarks",
        ],
        [record["machine"] for record in chosen if record["label"] in named],
    )
    text += EXPLANATION
    if chosen is not whole and not whole:
        text += "\n**A quick look only:** a limited number of images a part.\n"
    shown = [{**row, **{key: _points(row.get(key)) for key in POINTS}} for row in rows]
    for key in (*MEASURES, *PIXEL_MEASURES):
        of_key = [row for row in shown if row["measure"] == key]
        if of_key:
            columns: list[str | Column] = ["set", "detector", "peer", "seeds"]
            columns += [Column(name, name, 2) for name in ("ours", "theirs", "difference")]
            if key in MEASURES:
                columns += [Column("lower", "lower", 2), Column("upper", "upper", 2), "holds"]
            text += f"\n## {TITLES[key]}\n\n{markdown_table(of_key, columns)}"
    text += f"\n## Cost\n\n{_costs(chosen, pairs)}"
    folder = Path(out)
    write_text(folder / "image_peer.csv", csv_text(rows, COLUMNS))
    write_text(folder / "image_peer.md", text)
    return [folder / "image_peer.csv", folder / "image_peer.md"]


POINTS = ("ours", "theirs", "difference", "lower", "upper")
TITLES = {
    "auroc": "Image AUROC",
    "ap": "Image average precision",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "Area under PRO, to a false-positive rate of 30 %",
}


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _costs(records: Sequence[Record], pairs: Mapping[str, str]) -> str:
    rows = []
    for name in sorted({record["set"] for record in records}):
        for label in dict.fromkeys([*pairs, *pairs.values()]):
            there = list(_by_seed(records, name, label).values())
            if there:
                keys = ("fit_s", "score_ms", "peak_mb")
                rows.append(
                    {
                        "set": name,
                        "detector": label,
                        "train": there[0]["train"],
                        **{key: float(np.median(values_of(there, key))) for key in keys},
                    }
                )
    columns: list[str | Column] = [
        "set",
        "detector",
        Column("train", "training images"),
        Column("fit_s", "fit s", 1),
        Column("score_ms", "model ms/image", 1),
        Column("peak_mb", "peak memory MB", 0),
    ]
    return markdown_table(rows, columns)
