"""Which items to have labelled: the same budget spent on diverse, random or high-scoring ones.

    python benchmarks/labelling.py --data DIR --out results [--page docs/benchmarks] [--seeds 0,1,2]

ADBench's tables. Finished runs are kept in OUT/labelling.jsonl. Writes labelling.md; about half an hour on
one core.
"""

from __future__ import annotations

import argparse
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from cached_features import add_line, read_lines

from offnominal import metrics
from offnominal.audit.labelling import Labelling
from offnominal.bench.layouts import adbench
from offnominal.bench.machine import describe, header, mean
from offnominal.core.progress import say, shown
from offnominal.core.seeds import generator
from offnominal.core.store import write_text
from offnominal.report import Column, markdown_table

BUDGETS = (0.01, 0.02, 0.05)
WAYS = ("diverse", "random", "highest")
ROWS = 2_000
LEAST_ANOMALIES = 30


def halves(data: Path, name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Rows and labels to learn from and to test on, both classes in proportion; None for sets too small."""
    rows, labels = adbench.whole(name, data)
    random = generator(seed, "labelling", name)
    chosen = random.permutation(len(labels))[:ROWS]
    if not LEAST_ANOMALIES <= labels[chosen].sum() < len(chosen) / 2 or len(chosen) < 500:
        return None
    first = []
    for label in (0, 1):
        of = chosen[labels[chosen] == label]
        first.append(of[: len(of) // 2])
    train = np.concatenate(first)
    test = np.setdiff1d(chosen, train)
    return rows[train], labels[train], rows[test], labels[test]


def measured(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    return {"auroc": metrics.auroc(labels, scores), "ap": metrics.average_precision(labels, scores)}


def run(parts: tuple[np.ndarray, ...], way: str, budget: float, seed: int, exposure: bool) -> dict[str, Any]:
    rows, labels, new, truth = parts
    with shown(False):
        queue = Labelling(querying=way, exposure=exposure, seed=seed).fit(rows)  # type: ignore[arg-type]
        if budget:
            asked = queue.query(max(1, round(budget * len(rows))))
            queue.tell(labels[asked])
        queue.refit()
    left = np.array([label for at, label in enumerate(labels) if at not in queue.told])
    return {
        **measured(truth, queue.anomaly_score(new)),
        "asked": len(queue.told),
        "anomalies_asked": int(sum(queue.told.values())),
        "contamination": queue.contamination,
        "true_contamination": float(left.mean()),
    }


def difference(
    records: list[dict[str, Any]], way: str, budget: float, key: str
) -> tuple[float, float, int, int]:
    """Mean over sets of diverse less another way, its standard error, and sets won and lost."""
    apart = []
    for name in sorted({record["set"] for record in records}):
        values = [
            mean([r[key] for r in records if r["set"] == name and r["way"] == w and r["budget"] == budget])
            for w in ("diverse", way)
        ]
        apart.append(100 * (values[0] - values[1]))
    found = np.array(apart)
    error = float(found.std(ddof=1) / sqrt(len(found)))
    return float(found.mean()), error, int((found > 1).sum()), int((found < -1).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--page", type=Path)
    parser.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0, 1])
    parser.add_argument("--sets", type=lambda text: text.split(","))
    asked = parser.parse_args()
    kept = asked.out / "labelling.jsonl"
    keys = ("set", "way", "budget", "seed")
    done = {tuple(record[key] for key in keys): record for record in read_lines(kept)}
    wanted = []
    with shown():
        for name in adbench.find(asked.data):
            if asked.sets and name.split("/")[1] not in asked.sets:
                continue
            for seed in asked.seeds:
                parts = halves(asked.data, name, seed)
                if parts is None:
                    continue
                plan = [("none", 0.0), *((way, budget) for budget in BUDGETS for way in WAYS)]
                plan += [("diverse, hard", budget) for budget in BUDGETS]
                for way, budget in plan:
                    key = (name, way, budget, seed)
                    wanted.append(key)
                    if key not in done:
                        querying = way if way in WAYS else "diverse"
                        found = run(parts, querying, budget, seed, exposure=way != "diverse, hard")
                        done[key] = dict(zip(keys, key, strict=True)) | found
                        add_line(kept, done[key])
                say(f"{name}, seed {seed}")
    records = [done[key] for key in wanted]
    sets = sorted({record["set"] for record in records})
    text = header(
        "Labelling under a budget",
        ["python benchmarks/labelling.py --data DIR --out results --page docs/benchmarks"],
        [describe()],
    )
    text += f"{len(sets)} of ADBench's tables (at least 500 rows and "
    text += f"{LEAST_ANOMALIES} anomalies, fewer than half; "
    text += f"{ROWS} rows at most), {len(asked.seeds)} splits each: half to learn "
    text += "from and to query, half to test "
    text += (
        "on. One round of labels, then `refit`; everything but the choice of what is labelled is the same. "
    )
    text += (
        "`none`: no labels. `diverse, hard`: all unlabelled rows count as normal, no outlier exposure.\n\n"
    )
    rows: list[dict[str, Any]] = []
    for budget, way in [(0.0, "none")] + [(b, w) for b in BUDGETS for w in (*WAYS, "diverse, hard")]:
        of = [record for record in records if record["way"] == way and record["budget"] == budget]
        error = [abs(r["contamination"] - r["true_contamination"]) for r in of] if budget else []
        rows.append(
            {
                "budget": budget,
                "way": way,
                "auroc": 100 * mean([r["auroc"] for r in of]),
                "ap": 100 * mean([r["ap"] for r in of]),
                "found": mean([r["anomalies_asked"] / r["asked"] for r in of]) if budget else None,
                "error": mean(error) if error else None,
            }
        )
    text += markdown_table(
        rows,
        [
            Column("budget", percent=True, digits=0),
            Column("way", "labelled"),
            Column("auroc", "mean AUROC, %", 2),
            Column("ap", "mean average precision, %", 2),
            Column("found", "anomalies among the labelled", percent=True, digits=0),
            Column("error", "mean error of the contamination", 3),
        ],
    )
    text += "\n## Diverse less the others, in points\n\nMeans over sets ± standard "
    text += "error; a set is won or lost by "
    text += "more than one point.\n\n"
    rows = []
    for budget in BUDGETS:
        for way in (*WAYS[1:], "diverse, hard"):
            row: dict[str, Any] = {"budget": budget, "than": way}
            for key in ("auroc", "ap"):
                gain, error_of, won, lost = difference(records, way, budget, key)
                row |= {key: gain, f"{key}_error": error_of, f"{key}_sets": f"{won} : {lost}"}
            rows.append(row)
    text += markdown_table(
        rows,
        [
            Column("budget", percent=True, digits=0),
            Column("than", "less"),
            Column("auroc", "AUROC", 2),
            Column("auroc_error", "±", 2),
            Column("auroc_sets", "won : lost"),
            Column("ap", "average precision", 2),
            Column("ap_error", "±", 2),
            Column("ap_sets", "won : lost"),
        ],
    )
    write_text((asked.page or asked.out) / "labelling.md", text)
    print(text)


if __name__ == "__main__":
    main()
