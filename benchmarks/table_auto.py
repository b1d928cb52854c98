"""The ensemble ``auto`` for tables: its rules are chosen on other sets than the one they are judged on.

    python benchmarks/table_auto.py --data DIR --out results [--peer results.jsonl] [--page docs/benchmarks]

Members are fitted once a set, on ADBench's splits; their scores are kept in OUT/auto_members. Every rule is
then a combination of the same scores. ``--peer`` names the runs of ``benchmarks/table_accuracy.py``, which
hold the peer's detectors on the same splits. Writes PAGE/table_auto.md; some ten minutes on one core.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from cached_features import read_lines

from offnominal import metrics
from offnominal.bench.layouts import adbench
from offnominal.bench.machine import describe, header
from offnominal.core.progress import say, shown
from offnominal.core.store import atomic_path, write_text
from offnominal.decide.combination import Surprise
from offnominal.persistence import make
from offnominal.report import Column, markdown_table
from offnominal.table.auto import MEMBERS, agreeing, combined

POOL = (
    "knn",
    "lof",
    "iforest",
    "ecod",
    "copod",
    "hbos",
    "pca",
    "gmm",
    "cblof",
    "inne",
    "kde",
    "loda",
    "ocsvm",
)
MEASURES = {"auroc": "AUROC", "ap": "Average precision"}
Scores = dict[str, dict[str, np.ndarray]]


def members_on(data: Path, name: str, seed: int, kept: Path) -> Scores:
    """Held-out and test scores of every member on a split, and the test labels."""
    place = kept / f"{name.replace('/', '_')}-{seed}.npz"
    if not place.is_file():
        split = adbench.load(name, data, seed)
        found: dict[str, np.ndarray] = {"labels": split.labels}
        for member in POOL:
            detector = make(member, "table", seed=seed)
            found[f"held {member}"] = detector.fit_score(split.train)
            found[f"test {member}"] = detector.anomaly_score(split.test)
        with atomic_path(place) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **found)
        say(name)
    with np.load(place) as stored:
        arrays = {key: stored[key] for key in stored.files}
    return {
        "labels": {"": arrays["labels"]},
        **{part: {member: arrays[f"{part} {member}"] for member in POOL} for part in ("held", "test")},
    }


def measures(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return 100 * np.array([metrics.auroc(labels, scores), metrics.average_precision(labels, scores)])


def rules() -> dict[str, tuple[tuple[str, ...], str, bool]]:
    """Rules to choose from: members, how they are combined, and whether those that disagree are left out."""
    pools = {
        "all": POOL,
        "auto": MEMBERS,
        **{" ".join(some): some for size in (2, 3, 4) for some in combinations(POOL, size)},
    }
    found = {}
    for name, pool in pools.items():
        for how in ("mean", "largest") if len(pool) < 5 or name in ("all", "auto") else ("mean",):
            found[f"{name}, {how}"] = (pool, how, False)
        if len(pool) > 4:
            found[f"{name}, mean of those that agree"] = (pool, "mean", True)
    return found


def judged(scores: Scores, rule: tuple[tuple[str, ...], str, bool], surprise: dict[str, Any]) -> np.ndarray:
    pool, how, choosing = rule
    chosen = list(pool)
    if choosing:
        chosen = [chosen[at] for at in agreeing(np.stack([surprise["held"][m] for m in chosen], axis=1))]
    matrix = np.stack([surprise["test"][m] for m in chosen], axis=1)
    return measures(scores["labels"][""], combined(matrix, how))


def peer_scores(path: Path, sets: list[str], seed: int) -> tuple[list[str], np.ndarray]:
    """Names of the peer's detectors that ran on all sets, and their measures (sets, detectors, 2)."""
    found = {
        (r["set"], r["label"]): (100 * r["auroc"], 100 * r["ap"])
        for r in read_lines(path)
        if r["label"].startswith("pyod ") and r.get("auroc") is not None and r["seed"] == seed
    }
    names = sorted({label for _, label in found})
    names = [label for label in names if all((name, label) in found for name in sets)]
    return names, np.array([[found[name, label] for label in names] for name in sets])


def others_best(table: np.ndarray) -> np.ndarray:
    """For each set the column with the highest mean over the other sets: (sets,) of columns."""
    rest = (table.sum(axis=0) - table) / (len(table) - 1)
    return rest.argmax(axis=1)


def line(name: str, regret: np.ndarray, chosen: str) -> dict[str, Any]:
    return {
        "against": name,
        "regret": float(regret.mean()),
        "error": float(regret.std(ddof=1) / sqrt(len(regret))),
        "median": float(np.median(regret)),
        "better": int((regret < -1).sum()),
        "worse": int((regret > 1).sum()),
        "most": float(regret.max()),
        "chosen": chosen,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--page", type=Path)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    names = adbench.find(asked.data)
    candidates = rules()
    table = np.empty((len(names), len(candidates), 2))
    single = np.empty((len(names), len(POOL), 2))
    with shown():
        for at, name in enumerate(names):
            scores = members_on(asked.data, name, asked.seed, asked.out / "auto_members")
            surprise: dict[str, Any] = {"held": {}, "test": {}}
            for member in POOL:
                scale = Surprise.of(scores["held"][member])
                for part in ("held", "test"):
                    surprise[part][member] = scale(scores[part][member])
            table[at] = [judged(scores, rule, surprise) for rule in candidates.values()]
            single[at] = [measures(scores["labels"][""], scores["test"][member]) for member in POOL]
    text = header(
        "The ensemble auto for tables",
        ["python benchmarks/table_auto.py --data DIR --out results --peer results/results.jsonl"],
        [describe()],
    )
    labels = list(candidates)
    frozen = labels.index("auto, mean")
    text += f"{len(names)} sets of ADBench, its protocol, split {asked.seed}; nothing is told which training "
    text += f"rows are anomalous. `auto` is the mean surprise of {', '.join(MEMBERS)}: the best of "
    text += f"{len(labels)} rules by the sum of both measures over all sets together, so its own figures are "
    text += (
        "not independent of these sets. `rule chosen on other sets` is: for each set the rule is the best "
    )
    text += "on the others by that sum, and the single detector is the best on the others by the measure "
    text += "shown. Regret is what is lost, in points; below 0 is a gain.\n"
    rule = others_best(table.sum(axis=2))
    picked = sorted({labels[at] for at in rule})
    for measure, title in enumerate(MEASURES.values()):
        ours, members = table[..., measure], single[..., measure]
        loose = ours[np.arange(len(names)), rule]
        opponents = [("the best member on other sets", members, list(POOL))]
        if asked.peer is not None:
            peers, values = peer_scores(asked.peer, names, asked.seed)
            opponents.append(("the peer's best on other sets", values[..., measure], peers))
        rows = []
        for against, other, of in opponents:
            column = others_best(other)
            best = other[np.arange(len(names)), column]
            chosen = ", ".join(sorted({of[at] for at in column}))
            rows.append({"ours": "auto", **line(against, best - ours[:, frozen], chosen)})
            rows.append({"ours": "rule chosen on other sets", **line(against, best - loose, chosen)})
        text += f"\n## {title}\n\n"
        text += markdown_table(
            rows,
            [
                "ours",
                "against",
                Column("regret", "mean regret", 2),
                Column("error", "± standard error", 2),
                Column("median", digits=2),
                Column("better", "better by > 1"),
                Column("worse", "worse by > 1"),
                Column("most", "largest regret", 1),
                Column("chosen", "which is"),
            ],
        )
        text += f"\nRules chosen on other sets: {'; '.join(picked)}.\n\n"
        means = [(labels[at], float(ours[:, at].mean())) for at in np.argsort(-ours.mean(axis=0))[:12]]
        means += [(member, float(value)) for member, value in zip(POOL, members.mean(axis=0), strict=True)]
        means += [
            (name, float(ours[:, labels.index(name)].mean())) for name in labels if name[:3] in ("all", "aut")
        ]
        text += markdown_table(
            [{"rule": name, "mean": value} for name, value in dict(means).items()],
            ["rule", Column("mean", f"mean {title}, %", 2)],
        )
    write_text((asked.page or asked.out) / "table_auto.md", text)
    print(text)


if __name__ == "__main__":
    main()
