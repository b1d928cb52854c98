"""Speed and error of the pixel measures: 100 maps of 256 x 256, beside the peers, as a Markdown table.

    python benchmarks/metrics_speed.py [--peer-python PATH] [--repeats 5]

``--peer-python`` is the interpreter of an environment with anomalib; its area under PRO then runs there on
the same arrays. Rounds are interleaved; times are medians; ratios are within this one run.
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

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score

from offnominal import metrics
from offnominal.metrics import pixels

PEER = """
import json, sys, time
import numpy as np, torch
from anomalib.metrics.aupro import _AUPRO
torch.set_num_threads(int(sys.argv[2]))
arrays = np.load(sys.argv[1])
maps, masks = torch.from_numpy(arrays["maps"]), torch.from_numpy(arrays["masks"]).int()
for line in sys.stdin:
    begin = time.perf_counter()
    measure = _AUPRO(fpr_limit=0.3)
    measure.update(maps, masks)
    value = float(measure.compute())
    print(json.dumps([value, time.perf_counter() - begin]), flush=True)
"""


def scenes(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed noise with smoothed rectangular defects in every second map."""
    rng = np.random.default_rng(0)
    masks = np.zeros((count, side, side), dtype=bool)
    maps = np.empty((count, side, side), dtype=np.float32)
    for i in range(count):
        for _ in range(int(rng.integers(1, 4)) if i % 2 else 0):
            y, x = rng.integers(0, side - 36, 2)
            masks[i, y : y + rng.integers(5, 36), x : x + rng.integers(5, 36)] = True
        maps[i] = gaussian_filter(rng.normal(size=(side, side)), 4) * 8
        maps[i] += gaussian_filter(masks[i].astype(np.float32), 4) * rng.uniform(0, 3)
    return masks, maps


def timed(measure: Callable[[], float]) -> tuple[float, float]:
    begin = time.perf_counter()
    value = measure()
    return value, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--peer-threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    masks, maps = scenes(100, 256)
    truth, scores = masks.ravel(), maps.ravel()

    def histogram() -> float:
        kept, pixels.KEPT = pixels.KEPT, pixels.BLOCK
        try:
            return metrics.aupro(masks, maps)
        finally:
            pixels.KEPT = kept

    runs: dict[str, Callable[[], float]] = {
        "AUPRO, offnominal histogram": histogram,
        "AUPRO, offnominal": lambda: metrics.aupro(masks, maps),
        "AUPRO, offnominal exact": lambda: metrics.aupro(masks, maps, exact=True),
        "pixel AUROC, offnominal": lambda: metrics.pixel_auroc(masks, maps),
        "pixel AUROC, scikit-learn": lambda: float(roc_auc_score(truth, scores)),
        "pixel AP, offnominal": lambda: metrics.pixel_average_precision(masks, maps),
        "pixel AP, scikit-learn": lambda: float(average_precision_score(truth, scores)),
        "all pixel measures, offnominal": lambda: metrics.pixel_measures(masks, maps)["aupro"],
    }
    reference = {
        "AUPRO, offnominal histogram": "AUPRO, offnominal exact",
        "AUPRO, offnominal": "AUPRO, offnominal exact",
        "AUPRO, offnominal exact": "AUPRO, offnominal exact",
        "pixel AUROC, offnominal": "pixel AUROC, scikit-learn",
        "pixel AP, offnominal": "pixel AP, scikit-learn",
        "all pixel measures, offnominal": "AUPRO, offnominal exact",
    }
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if asked.peer_python:
            arrays = Path(folder) / "arrays.npz"
            np.savez(arrays, masks=masks, maps=maps)
            peer = subprocess.Popen(
                [str(asked.peer_python), "-c", PEER, str(arrays), str(asked.peer_threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        results: dict[str, list[tuple[float, float]]] = {}
        for repeat in range(asked.repeats + 1):  # the first round warms up
            for name, measure in runs.items():
                result = timed(measure)
                if repeat:
                    results.setdefault(name, []).append(result)
            if peer and peer.stdin and peer.stdout:
                peer.stdin.write("\n")
                peer.stdin.flush()
                answer = peer.stdout.readline()
                if not answer:
                    raise SystemExit("the peer stopped; run it by hand to see why")
                if repeat:
                    results.setdefault("AUPRO, anomalib", []).append(tuple(json.loads(answer)))
        if peer and peer.stdin:
            peer.stdin.close()
            peer.wait()
    if "AUPRO, anomalib" in results:
        for name in (
            "AUPRO, offnominal",
            "AUPRO, offnominal histogram",
            "AUPRO, offnominal exact",
            "all pixel measures, offnominal",
        ):
            reference[name] = "AUPRO, anomalib"
    print("| measure | value | median ms | times faster than | difference from it |")
    print("|---|---|---|---|---|")
    for name, found in results.items():
        value, seconds = found[0][0], median(s for _, s in found)
        line = f"| {name} | {value:.6f} | {1e3 * seconds:.0f} |"
        if name in reference:
            other = results[reference[name]]
            ratio = median(theirs / ours for (_, ours), (_, theirs) in zip(found, other, strict=True))
            line += f" {ratio:.1f} x {reference[name]} | {value - other[0][0]:+.1e} |"
        else:
            line += " | |"
        print(line)


if __name__ == "__main__":
    main()
