"""Serve TSB-AD's measures of series to a benchmark that takes turns with it. Runs in the peer's environment.

    FOLDER/bin/python benchmarks/peers/tsb_ad_measures.py SERIES.npz

SERIES.npz holds ``labels`` and ``scores`` of shape (series, n). One JSON object a line comes in,
``{"measure": name, "series": i, "window": w, "thresholds": k}``, and one goes out: ``[values, seconds]``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from TSB_AD.evaluation.basic_metrics import basic_metricor, generate_curve


def values(asked: dict[str, Any], labels: np.ndarray, scores: np.ndarray) -> list[float]:
    grader = basic_metricor()
    name = asked["measure"]
    if name in ("opt", "opt_mem"):
        curves = generate_curve(labels, scores, asked["window"], name, asked["thresholds"])
        return [float(curves[-2]), float(curves[-1])]
    if name == "slice":
        curves = grader.RangeAUC_volume_opt(labels, scores, asked["window"], asked["thresholds"])
        tpr, fpr, precision = (np.asarray(curve)[-1] for curve in curves[:3])
        area = float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))
        return [area, float(np.sum(np.diff(tpr[:-1]) * precision[1:]))]
    return [float(getattr(grader, name)(labels, scores))]


def main() -> None:
    # what the peer prints must not get between the answers
    answers, sys.stdout = sys.stdout, sys.stderr
    with np.load(Path(sys.argv[1])) as arrays:
        labels, scores = arrays["labels"], arrays["scores"]
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        found = values(asked, labels[asked["series"]], scores[asked["series"]])
        print(json.dumps([found, time.perf_counter() - began]), file=answers, flush=True)


if __name__ == "__main__":
    main()
