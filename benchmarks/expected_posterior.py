"""Whether the expected anomaly posterior tells realistic auxiliary anomalies from the others.

    python benchmarks/expected_posterior.py --data DIR --out docs/benchmarks

On ADBench's tables; writes OUT/expected_posterior.md, some minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from offnominal import metrics
from offnominal.audit.expected_posterior import densities, expected_posterior, kernel_classifier
from offnominal.bench.layouts import adbench
from offnominal.bench.machine import describe, header, mean
from offnominal.core.progress import say, shown
from offnominal.core.seeds import generator
from offnominal.core.store import write_text
from offnominal.report import Column, markdown_table

NORMALS, KNOWN, EACH = 300, 10, 60
WAYS = {
    "posterior": "expected posterior",
    "no density": "without density",
    "class": "class probability alone",
    "rarity": "density alone (low is good)",
}


def rated(data: Path, name: str) -> dict[str, float] | None:
    rows, labels = adbench.whole(name, data)
    random = generator(0, "expected posterior", name)
    normal, anomalous = (random.permutation(np.flatnonzero(labels == label)) for label in (0, 1))
    if len(normal) < NORMALS + EACH or len(anomalous) < 2 * KNOWN:
        return None
    training, known = rows[normal[:NORMALS]], rows[anomalous[:KNOWN]]
    centre, scale = training.mean(axis=0), training.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    realistic = rows[anomalous[KNOWN:][:EACH]]
    alike = rows[normal[NORMALS:][:EACH]]
    far = centre + scale * random.normal(size=(EACH, rows.shape[1])) * 20
    candidates = np.concatenate([realistic, alike, far])
    truth = np.repeat([1, 0, 0], [len(realistic), len(alike), len(far)])
    at = [(part - centre) / scale for part in (training, known, candidates)]
    apart = [np.linalg.norm(part[:, None] - at[0], axis=2) for part in at]
    together = np.concatenate(at[:2])
    chance = kernel_classifier(together, np.repeat([0, 1], [len(training), len(known)]))(at[2])
    with shown(False):
        scores = {
            "posterior": expected_posterior(candidates, training, known),
            "no density": expected_posterior(candidates, training, known, density=False),
        }
    scores |= {"class": chance, "rarity": -densities(apart[0], apart[1], apart[2], 5)}
    return {way: metrics.auroc(truth, values) for way, values in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with shown():
        for name in adbench.find(asked.data):
            found = rated(asked.data, name)
            if found is not None:
                rows.append({"set": name.split("/")[1], **found})
                say(f"{name}: {found['posterior']:.3f}")
    text = header(
        "The quality of auxiliary anomalies",
        ["python benchmarks/expected_posterior.py --data DIR --out docs/benchmarks"],
        [describe()],
    )
    text += f"{len(rows)} of ADBench's tables: {NORMALS} normal rows and {KNOWN} "
    text += "known anomalies. Candidates are up "
    text += f"to {EACH} other real anomalies (realistic), {EACH} other normal rows "
    text += f"(no anomalies) and {EACH} random "
    text += "rows far from all (unrealistic). AUROC in per cent of the realistic ones against the rest.\n\n"
    columns: list[str | Column] = ["rating", Column("mean", "mean AUROC, %", 1), Column("best", "best on")]
    ways = list(WAYS)
    table = np.array([[row[way] for way in ways] for row in rows])
    text += markdown_table(
        [
            {
                "rating": WAYS[way],
                "mean": 100 * mean(table[:, at]),
                "best": int((table.argmax(axis=1) == at).sum()),
            }
            for at, way in enumerate(ways)
        ],
        columns,
    )
    text += "\n"
    text += markdown_table(rows, ["set", *(Column(way, title, percent=True) for way, title in WAYS.items())])
    write_text(asked.out / "expected_posterior.md", text)
    print(text)


if __name__ == "__main__":
    main()
