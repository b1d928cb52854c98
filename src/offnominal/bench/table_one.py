"""Runs of the table suite in one process: ``python -m offnominal.bench.table_one`` answers task after task.

A task's keys: ``data``, ``set``, ``seed``, ``limit``, ``detector``, ``parameters``, ``rate``, ``out``. It
fits a detector on a set's training part, scores its test part, writes scores to ``out`` (npz) and answers the
record.
"""

from __future__ import annotations

import json
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal import metrics
from offnominal.bench.layouts import adbench
from offnominal.bench.machine import describe
from offnominal.bench.measures import verdict_measures
from offnominal.core.errors import OffnominalError
from offnominal.core.store import atomic_path
from offnominal.decide import Conformal
from offnominal.persistence import make


@lru_cache(maxsize=1)  # all detectors run on a set one after another
def load_split(data: str, name: str, seed: int, limit: int | None) -> adbench.TableSplit:
    """The split a task names, at most ``limit`` rows a part where it has a limit."""
    whole = adbench.load(name, data, seed)
    return whole if limit is None else whole.smaller(limit)


def item_measures(labels: npt.ArrayLike, scores: npt.ArrayLike) -> dict[str, float]:
    """AUROC, average precision, and F1 where as many rows are called anomalous as there are anomalies."""
    return {
        "auroc": metrics.auroc(labels, scores),
        "ap": metrics.average_precision(labels, scores),
        "f1": metrics.precision_at_n(labels, scores),
    }


def keep_scores(place: str | Path, split: adbench.TableSplit, scores: npt.NDArray[Any], **more: Any) -> None:
    """Write scores beside the rows' names and labels."""
    with atomic_path(place) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, scores=scores, labels=split.labels, items=split.items, **more)


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Carry out a task; writes the scores and returns the record."""
    split = load_split(task["data"], task["set"], task["seed"], task["limit"])
    detector = make(task["detector"], "table", **task["parameters"])
    began = time.perf_counter()
    detector.fit(split.train, decision=Conformal(task["rate"]))
    fitted = time.perf_counter()
    scores = detector.anomaly_score(split.test)
    scored = time.perf_counter()
    verdicts = None if detector.decision_ is None else detector.decision_.judge(scores)
    keep_scores(
        task["out"],
        split,
        scores,
        p_values=np.full(len(scores), np.nan) if verdicts is None else verdicts.p_value,
        verdicts=np.full(len(scores), -1, np.int8) if verdicts is None else verdicts.anomalous,
    )
    return {
        "train": len(split.train),
        "test": len(split.test),
        "columns": split.train.shape[1],
        "anomalous": int((split.labels == 1).sum()),
        **item_measures(split.labels, scores),
        **verdict_measures(split.labels, None if verdicts is None else verdicts.anomalous),
        "fit_s": fitted - began,
        "score_s": scored - fitted,
        "protocol": adbench.PROTOCOL,
        "machine": describe(),
    }


def main() -> None:
    """Answer tasks, one JSON value a line, until there are no more."""
    for line in sys.stdin:
        try:
            answer = run(json.loads(line))
        except (OffnominalError, ValueError, ArithmeticError, MemoryError, np.linalg.LinAlgError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
