"""The share of anomalies without labels: whether its posterior covers, what it is good for on real tables.

    python benchmarks/contamination.py --data DIR --out docs/benchmarks [--mixtures 150] [--rows 600]

Tables that are done are kept in KEPT/contamination.jsonl. Writes OUT/contamination.md and
OUT/contamination.csv; on one core some ten minutes.
"""

from __future__ import annotations

import argparse
import math
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from cached_features import add_line, read_lines

from offnominal.bench.layouts import adbench
from offnominal.bench.machine import describe, header, mean
from offnominal.core.progress import say, shown
from offnominal.core.seeds import generator
from offnominal.core.store import write_text
from offnominal.decide import contamination_posterior
from offnominal.decide.contamination import first_anomalous, solve
from offnominal.persistence import make
from offnominal.report import Column, csv_text, markdown_table

LEVELS = (0.5, 0.8, 0.9, 0.95)
DETECTORS = ("knn", "iforest", "lof", "ocsvm", "hbos", "loda", "copod", "ecod", "pca", "inne")
LIMIT = 0.25


CASES = (  # how far detectors may disagree on a component, its deviation, whether empty ones count
    ("well apart", 3.0, 0.15, False),
    ("well apart", 3.0, 0.15, True),
    ("apart", 2.0, 0.3, False),
    ("in a row, close together", 0.3, 0.3, False),
)


def simulated(
    seed: int, n: int, apart: float, deviation: float, detectors: int = 3
) -> tuple[np.ndarray, float]:
    """Scores whose logarithms are a Gaussian mixture, and a share drawn by the model's own rule."""
    random = generator(seed, "contamination mixtures")
    small = random.uniform(0.01, 0.05, 3)
    weights = np.append(small, [0.35, 0.65 - small.sum()])
    means = np.array([9.0, 6.0, 3.0, 0.0, -2.0])[:, None] + random.uniform(-apart, apart, (5, detectors))
    component = random.choice(5, size=n, p=weights)
    logs = means[component] + deviation * random.normal(size=(n, detectors))
    centre, scale = logs.mean(axis=0), logs.std(axis=0)
    rank = (((means - centre) / scale) / (1 + deviation / scale)).mean(axis=1)
    order = np.argsort(-rank)
    constraints = solve(rank[order], n * weights[order], 0.01, 0.15, 0.01)
    if constraints is None:  # a large component came first: the prior does not allow that
        return simulated(seed + 100_000, n, apart, deviation, detectors)
    exactly = first_anomalous(rank[order], *constraints)
    many = int(random.choice(6, p=np.append(1 - exactly.sum(), exactly)))
    # so shifted, log(s − min + 0.01) gives the mixture back
    scores = np.exp(logs - logs.min(axis=0) + math.log(0.01))
    return scores, float(weights[order][:many].sum())


def coverage(mixtures: int, n: int) -> list[dict[str, Any]]:
    rows = []
    for name, apart, deviation, whole_prior in CASES:
        below, errors = [], []
        for seed in range(mixtures):
            scores, share = simulated(seed, n, apart, deviation)
            found = contamination_posterior(
                scores, components=30, draws=4_000, seed=seed, whole_prior=whole_prior
            )
            below.append(float((found.samples < share).mean()))
            errors.append(abs(found.mean - share))
        for level in LEVELS:
            inside = float(np.mean([abs(value - 0.5) <= level / 2 for value in below]))
            error = sqrt(level * (1 - level) / mixtures)
            rows.append(
                {
                    "components": name,
                    "prior": "spread, as the authors' code" if whole_prior else "left out (default)",
                    "level": level,
                    "inside": inside,
                    "two_errors": 2 * error,
                    "holds": "yes" if abs(inside - level) <= 2 * error else "no",
                    "error": mean(errors),
                }
            )
        say(f"{name}, {whole_prior}: " + ", ".join(f"{row['inside']:.3f}" for row in rows[-len(LEVELS) :]))
    return rows


def rules(scores: np.ndarray) -> dict[str, float]:
    """Share of one detector's scores that each usual rule calls anomalous."""
    low, middle, high = np.quantile(scores, [0.25, 0.5, 0.75])
    spread = 1.4826 * np.median(np.abs(scores - middle))
    return {
        "fixed 10 %": 0.1,
        "interquartile range × 1.5": float(np.mean(scores > high + 1.5 * (high - low))),
        "median + 3 MAD": float(np.mean(scores > middle + 3 * spread)),
        "mean + 3 std": float(np.mean(scores > scores.mean() + 3 * scores.std())),
        "two means": two_means(scores),
    }


def two_means(scores: np.ndarray) -> float:
    """Share above the threshold that splits the scores into two groups of least variance (Otsu)."""
    ordered = np.sort(scores)
    n = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)[:-1]
    between = (sums / n - (ordered.sum() - sums) / (len(ordered) - n)) ** 2 * n * (len(ordered) - n)
    return float(1 - (int(between.argmax()) + 1) / len(ordered))


def f1(labels: np.ndarray, scores: np.ndarray, share: float) -> float:
    """F1 where the highest share of the scores is called anomalous."""
    count = round(share * len(scores))
    hits = labels[np.argsort(-scores, kind="stable")[:count]].sum()
    return float(2 * hits / (count + labels.sum()))


def on_tables(data: Path, most: int, kept: Path) -> list[dict[str, Any]]:
    rows = []
    done = {(row["set"], row["most"]): row for row in read_lines(kept)}
    for name in adbench.find(data):
        if (found_before := done.get((name.split("/")[1], most))) is not None:
            rows.append(found_before)
            continue
        values, labels = adbench.whole(name, data)
        chosen = np.sort(generator(0, "contamination", name).permutation(len(labels))[:most])
        values, labels = values[chosen], labels[chosen]
        truth = float(labels.mean())
        if not 0 < truth < LIMIT:
            continue
        scores = np.stack([make(each, "table").fit_score(values) for each in DETECTORS], axis=1)
        found = contamination_posterior(scores)
        low, high = found.interval(0.9)
        given = [rules(column) for column in scores.T]
        estimates = {rule: float(np.mean([each[rule] for each in given])) for rule in given[0]}
        row: dict[str, Any] = {
            "set": name.split("/")[1],
            "most": most,
            "rows": len(labels),
            "truth": truth,
            "posterior mean": found.mean,
            "low": low,
            "high": high,
            "covers": "yes" if low <= truth <= high else "no",
            "solved": "yes" if found.solved else "no",
            **{f"error, {rule}": abs(share - truth) for rule, share in estimates.items()},
            "error, posterior mean": abs(found.mean - truth),
        }
        for at, column in enumerate(scores.T):
            for rule, share in {**given[at], "posterior mean": found.mean, "true share": truth}.items():
                row[f"F1, {rule}"] = row.get(f"F1, {rule}", 0.0) + f1(labels, column, share) / len(DETECTORS)
        rows.append(row)
        add_line(kept, row)
        say(f"{row['set']}: true {truth:.3f}, mean {found.mean:.3f}, {low:.3f} to {high:.3f}")
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = ["posterior mean", *rules(np.arange(9.0)), "true share"]
    return [
        {
            "rule": name,
            "error": mean([row[f"error, {name}"] for row in rows]) if name != "true share" else 0.0,
            "f1": mean([row[f"F1, {name}"] for row in rows]),
            "best": sum(
                row[f"F1, {name}"] >= max(row[f"F1, {other}"] for other in names[:-1]) for row in rows
            )
            if name != "true share"
            else None,
        }
        for name in names
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--kept", type=Path, default=Path("results"), help="folder of finished tables")
    parser.add_argument("--mixtures", type=int, default=150)
    parser.add_argument("--rows", type=int, default=600)
    asked = parser.parse_args()
    with shown():
        tables = on_tables(asked.data, asked.rows, asked.kept / "contamination.jsonl")
        covered = coverage(asked.mixtures, 1_000)
    text = header(
        "The share of anomalies, without labels",
        ["python benchmarks/contamination.py --data DIR --out docs/benchmarks"],
        [describe()],
    )
    text += "## Mixtures drawn by the method's own rule\n\n"
    text += (
        f"{asked.mixtures} simulated mixtures of five Gaussians in three detectors' log-scores, 1 000 items; "
    )
    text += (
        "how many of them are anomalous is drawn by the method's own prior. `inside`: how often the central "
    )
    text += "interval of the posterior holds the true share; `holds`: the level, within two standard errors. "
    text += (
        "Spreading the prior counts of empty components is what the authors' code does. Components in a row "
    )
    text += "and close together do not meet the assumption that the mixture finds them: it merges some.\n\n"
    text += markdown_table(
        covered,
        [
            "components",
            Column("prior", "prior counts of empty components"),
            Column("level", percent=True, digits=0),
            Column("inside", percent=True, digits=1),
            Column("two_errors", "± two standard errors", percent=True, digits=1),
            "holds",
            Column("error", "mean error of the posterior mean", 4),
        ],
    )
    text += f"\n## ADBench's tables\n\n{len(tables)} tables with fewer than {LIMIT:.0%} anomalies, at most "
    text += f"{asked.rows} rows of each; detectors {', '.join(DETECTORS)}, each row left out of its own "
    text += "neighbours. The usual rules look at one detector's scores; their errors are those of their mean "
    text += (
        "share over the detectors. F1 is the mean over the detectors, each thresholded at the rule's share; "
    )
    text += "`best`: on how many tables a rule's F1 is the highest.\n\n"
    text += markdown_table(
        summary(tables),
        [
            "rule",
            Column("error", "mean absolute error", 3),
            Column("f1", "mean F1", 3),
            Column("best", "best on"),
        ],
    )
    covers = sum(row["covers"] == "yes" for row in tables)
    text += f"\nThe 90 % interval holds the true share on {covers} of {len(tables)} tables: detectors do not "
    text += (
        "separate anomalies there as the model assumes. Read it as how sure the scores are of themselves.\n\n"
    )
    text += markdown_table(
        tables,
        [
            "set",
            "rows",
            Column("truth", "true share", percent=True),
            Column("posterior mean", percent=True),
            Column("low", "90 % from", percent=True),
            Column("high", "to", percent=True),
            "covers",
            "solved",
            Column("F1, posterior mean", "F1", 3),
            Column("F1, true share", "F1 at the true share", 3),
        ],
    )
    write_text(asked.out / "contamination.md", text)
    write_text(asked.out / "contamination.csv", csv_text(tables, list(tables[0]) if tables else ["set"]))
    print(text)


if __name__ == "__main__":
    main()
