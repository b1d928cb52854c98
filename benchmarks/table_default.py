"""Which vector detector is the default: all of them fitted on normal rows, with their default parameters.

    python benchmarks/table_default.py --data DIR --out results [--seed 0] [--detectors knn,lof]

Half of a set's normal rows train, at most 1500; the other half and at most 500 anomalies test. That is the
setting of ``offnominal fit``; ADBench's own, with anomalies among the training rows, is
``offnominal bench table``. Prints mean ranks and writes OUT/table_default.md and a picture of the ranks.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from offnominal.bench.critical_difference import critical_difference_svg
from offnominal.bench.layouts import adbench
from offnominal.bench.machine import describe, header
from offnominal.bench.table_one import item_measures
from offnominal.core.progress import say, shown
from offnominal.core.seeds import generator
from offnominal.core.store import write_text
from offnominal.metrics import compare_ranks
from offnominal.persistence import make
from offnominal.report import Column, markdown_table

DETECTORS = "knn,lof,iforest,ecod,hbos,pca,gmm,cblof,inne,kde,loda,ocsvm"
TRAINED, TESTED, ANOMALIES = 1_500, 1_500, 500


def measured(data: Path, name: str, detectors: list[str], seed: int) -> dict[str, dict[str, float]]:
    """AUROC and average precision of each detector on a set."""
    rows, labels = adbench.whole(name, data)
    random = generator(seed, "table default", name)
    normal, anomalous = (random.permutation(np.flatnonzero(labels == label)) for label in (0, 1))
    half = len(normal) // 2
    train, new = normal[:half][:TRAINED], normal[half:][:TESTED]
    test = np.concatenate([new, anomalous[:ANOMALIES]])
    found = {}
    for detector in detectors:
        scores = make(detector, "table", seed=seed).fit(rows[train]).anomaly_score(rows[test])
        found[detector] = item_measures(labels[test], scores)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detectors", type=lambda text: text.split(","), default=DETECTORS.split(","))
    asked = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    with shown():
        for name in adbench.find(asked.data):
            found[name] = measured(asked.data, name, asked.detectors, asked.seed)
            best = max(found[name], key=lambda detector: found[name][detector]["auroc"])
            say(f"{name}: {best} {found[name][best]['auroc']:.3f}")
    text = header(
        "The default vector detector",
        ["python benchmarks/table_default.py --data DIR --out results"],
        [describe()],
    )
    text += f"{len(found)} sets, fitted on at most {TRAINED} normal rows, default parameters.\n"
    for key, title in (("auroc", "AUROC"), ("ap", "Average precision")):
        table = np.array([[of[detector][key] for detector in asked.detectors] for of in found.values()])
        ranks = compare_ranks(table)
        rows: list[dict[str, Any]] = [
            {"detector": detector, "rank": rank, "mean": 100 * value}
            for detector, rank, value in zip(
                asked.detectors, ranks.mean_ranks, table.mean(axis=0), strict=True
            )
        ]
        rows.sort(key=lambda row: row["rank"])
        columns: list[str | Column] = [
            "detector",
            Column("rank", "mean rank", 2),
            Column("mean", f"mean {title}, %", 2),
        ]
        picture = asked.out / f"table_default_{key}.svg"
        write_text(picture, critical_difference_svg(asked.detectors, ranks, f"Mean ranks by {title}"))
        text += f"\n## {title}\n\n![Mean ranks]({picture.name})\n\n{markdown_table(rows, columns)}"
        text += f"\nMean ranks further apart than {ranks.critical_difference:.2f} differ at 5 % (Nemenyi).\n"
    write_text(asked.out / "table_default.md", text)
    print(text)


if __name__ == "__main__":
    main()
