"""Measures of series beside TSB-AD's, their growth with length, and what random scores get, as Markdown.

    python benchmarks/series_metrics_speed.py [--peer-python PATH] [--repeats 3] [--longest 10000000]

``--peer-python`` is the interpreter of an environment with TSB-AD; it then runs on the same series in the
same rounds. Rounds are interleaved; times are medians; ratios are within this one run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from offnominal import metrics

LENGTH = 20_000
WINDOW, THRESHOLDS = 100, 250
PEER = Path(__file__).parent / "peers" / "tsb_ad_measures.py"
# Anomalies in a series of LENGTH steps, and the longest of them.
KINDS = {"one long": (1, 1500), "12 ranges": (12, 120), "100 short": (100, 10)}


def series(length: int, anomalies: int, longest: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise that is higher in anomalies and, late, behind them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(length, dtype=np.int64)
    for start in rng.integers(0, length - longest, anomalies):
        labels[start : start + rng.integers(max(longest // 2, 1), longest + 1)] = 1
    scores = rng.normal(size=length) + 2.0 * rng.random(length) * np.roll(labels, 5)
    return labels, scores


def volumes(labels: np.ndarray, scores: np.ndarray) -> list[float]:
    surface = metrics.range_surface(labels, scores, WINDOW, THRESHOLDS)
    return [float(surface.roc_areas.mean()), float(surface.precision_areas.mean())]


def slices(labels: np.ndarray, scores: np.ndarray) -> list[float]:
    return [
        metrics.range_auc_roc(labels, scores, WINDOW, THRESHOLDS),
        metrics.range_auc_pr(labels, scores, WINDOW, THRESHOLDS),
    ]


def best(measure: Callable[[Any, Any], float]) -> Callable[[np.ndarray, np.ndarray], list[float]]:
    return lambda labels, scores: [metrics.best_over_thresholds(measure, labels, scores)[0]]


# Name, ours, the peer's.
MEASURES: list[tuple[str, Callable[[np.ndarray, np.ndarray], list[float]], str]] = [
    ("VUS-ROC and VUS-PR", volumes, "opt"),
    ("VUS-ROC and VUS-PR, peer's opt_mem", volumes, "opt_mem"),
    ("range-AUC-ROC and -PR", slices, "slice"),
    ("range F1, best of 100 thresholds", best(metrics.range_f1), "metric_RF1"),
    ("composite F1, best of 100 thresholds", best(metrics.composite_f1), "metric_EventF1PA"),
    ("affiliation F1, best of 100 thresholds", best(metrics.affiliation_f1), "metric_Affiliation"),
    ("point-adjusted F1, best of 100 thresholds", best(metrics.point_adjusted_f1), "metric_PointF1PA"),
    ("F1-max", lambda labels, scores: [metrics.f1_max(labels, scores)], "metric_PointF1"),
]


def timed(measure: Callable[..., list[float]], *arguments: Any) -> tuple[list[float], float]:
    began = time.perf_counter()
    found = measure(*arguments)
    return found, time.perf_counter() - began


def compare(python: Path | None, repeats: int) -> None:
    made = [series(LENGTH, *kind, seed=i) for i, kind in enumerate(KINDS.values())]
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "series.npz"
        np.savez(arrays, labels=np.stack([a for a, _ in made]), scores=np.stack([b for _, b in made]))
        peer = None
        if python:
            peer = subprocess.Popen(
                [str(python), str(PEER), str(arrays)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )

        def ask(name: str, at: int) -> tuple[list[float], float]:
            assert peer is not None
            assert peer.stdin is not None
            assert peer.stdout is not None
            task = {"measure": name, "series": at, "window": WINDOW, "thresholds": THRESHOLDS}
            peer.stdin.write(json.dumps(task) + "\n")
            peer.stdin.flush()
            answer = peer.stdout.readline()
            if not answer:
                raise SystemExit(f"the peer stopped at {name}; run it by hand to see why")
            found, seconds = json.loads(answer)
            return found, seconds

        print("| anomalies | measure | ours | ms | TSB-AD ms | times faster | greatest difference |")
        print("|---|---|---|---|---|---|---|")
        for at, kind in enumerate(KINDS):
            for name, ours, theirs in MEASURES:
                timed(ours, *made[at])  # warms up
                rounds = []
                # The peer has no way to one slice but through the whole surface: compared, not timed.
                whole = theirs == "slice"
                for _ in range(1 if whole else repeats):
                    own = timed(ours, *made[at])
                    rounds.append((own, ask(theirs, at) if peer else None))
                shown = ", ".join(f"{value:.4f}" for value in rounds[0][0][0])
                line = f"| {kind} | {name} | {shown} | {1e3 * median(own[1] for own, _ in rounds):.1f} |"
                others = [other for _, other in rounds if other is not None]
                if others:
                    ratio = median(other[1] / own[1] for own, other in rounds if other is not None)
                    gap = max(abs(a - b) for a, b in zip(rounds[0][0][0], others[0][0], strict=True))
                    shown = f"{1e3 * median(other[1] for other in others):.0f} | {ratio:.0f}"
                    line += f" {' | ' if whole else shown} | {gap:.1e} |"
                else:
                    line += " | | |"
                print(line, flush=True)
        if peer and peer.stdin:
            peer.stdin.close()
            peer.wait()


def growth(longest: int, repeats: int) -> None:
    lengths = [n for n in (LENGTH, 10 * LENGTH, 100 * LENGTH, 500 * LENGTH) if n <= longest]
    calls: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
        "VUS": volumes,
        "range F1": lambda labels, scores: metrics.range_f1(labels, scores > 1.5),
        "affiliation F1": lambda labels, scores: metrics.affiliation_f1(labels, scores > 1.5),
        "NAB score": lambda labels, scores: metrics.nab_score(labels, scores > 1.5),
    }
    print("\n| steps | " + " | ".join(f"{name} ms | ns a step" for name in calls) + " |")
    print("|---" * (1 + 2 * len(calls)) + "|")
    for n in lengths:
        made = series(n, 12 * n // LENGTH, 120, seed=0)
        line = f"| {n:.0e} |"
        for measure in calls.values():
            seconds = median(timed(measure, *made)[1] for _ in range(repeats))
            line += f" {1e3 * seconds:.1f} | {1e9 * seconds / n:.0f} |"
        print(line, flush=True)


def chance(draws: int = 20) -> None:
    """Means over random scores on LENGTH steps, a tenth of them anomalous, in anomalies of one length."""
    rng = np.random.default_rng(0)
    calls: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "point-adjusted F1": metrics.point_adjusted_f1_max,
        "F1-max": metrics.f1_max,
        "VUS-PR": metrics.vus_pr,
        "range F1": lambda labels, scores: best(metrics.range_f1)(labels, scores)[0],
        "composite F1": lambda labels, scores: best(metrics.composite_f1)(labels, scores)[0],
        "affiliation F1": lambda labels, scores: best(metrics.affiliation_f1)(labels, scores)[0],
    }
    print("\n| steps an anomaly | " + " | ".join(calls) + " |")
    print("|---" * (1 + len(calls)) + "|")
    for steps in (1, 10, 100, 1000):
        labels = np.zeros(LENGTH, dtype=np.int64)
        for i in range(LENGTH // (10 * steps)):
            labels[(10 * i + 4) * steps : (10 * i + 5) * steps] = 1
        found = [[measure(labels, s) for measure in calls.values()] for s in rng.random((draws, LENGTH))]
        print(f"| {steps} | " + " | ".join(f"{value:.3f}" for value in np.mean(found, axis=0)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--longest", type=int, default=10_000_000)
    asked = parser.parse_args()
    compare(asked.peer_python, asked.repeats)
    growth(asked.longest, asked.repeats)
    chance()


if __name__ == "__main__":
    main()
