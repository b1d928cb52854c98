"""Speed of coreset selection and of nearest-row search, beside the peers, as Markdown tables.

    python benchmarks/normality_speed.py [--peer-python PATH] [--rows 100000] [--repeats 5] [--only coreset]

``--peer-python`` is the interpreter of an environment with anomalib; its greedy selection then runs there on
the same array. Rounds are interleaved; times are medians; ratios are within this one run.
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

import faiss
import numpy as np
import torch

from offnominal.core import threads
from offnominal.core.seeds import generator
from offnominal.normality import (
    CoresetBuffer,
    NearestRows,
    RandomProjection,
    covering_radius,
    greedy_coreset,
)

PEER = """
import json, sys, time
import numpy as np, torch
from anomalib.models.components import KCenterGreedy
torch.set_num_threads(int(sys.argv[3]))
torch.manual_seed(0)
rows = torch.from_numpy(np.load(sys.argv[1]))
begin = time.perf_counter()
chosen = KCenterGreedy(rows, (int(sys.argv[2]) + 0.5) / len(rows)).select_coreset_idxs()
print(json.dumps([time.perf_counter() - begin, chosen]))
"""


def features(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Rectified mixtures of 40 factors of uneven strength and a little noise."""
    mixing = np.random.default_rng(99).standard_normal((40, width), dtype=np.float32)
    draw = np.random.default_rng(seed)
    rows = np.empty((count, width), np.float32)
    for first in range(0, count, 8192):
        size = min(8192, count - first)
        weights = draw.standard_normal((size, 40), dtype=np.float32) * draw.gamma(4, 0.25, (size, 1)).astype(
            "f4"
        )
        rows[first : first + size] = np.maximum(weights @ mixing, 0)
        rows[first : first + size] += 0.1 * draw.standard_normal((size, width), dtype=np.float32)
    return rows


def row_by_row(rows: np.ndarray, k: int) -> list[int]:
    """The plain loop in torch: the same projection and start, then one distance to all rows a step."""
    points = RandomProjection(rows.shape[1], 128)(rows)
    points -= points.mean(axis=0, dtype=np.float64).astype(np.float32)
    tensor = torch.from_numpy(points)
    anchors = generator(0, "coreset", "start").choice(len(rows), size=10, replace=False)
    apart = torch.stack([torch.linalg.norm(tensor - tensor[a], dim=1) for a in anchors.tolist()]).mean(0)
    chosen = []
    for _ in range(k):
        place = int(apart.argmax())
        chosen.append(place)
        apart = torch.minimum(apart, torch.linalg.norm(tensor - tensor[place], dim=1))
        apart[place] = -1
    return chosen


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    value = work()
    return time.perf_counter() - begin, value


def coreset(rows: int, k: int, peer: str | None, repeats: int) -> None:
    data = features(rows, 512)
    ours = [timed(lambda: greedy_coreset(data, k)) for _ in range(repeats)]
    plain = timed(lambda: row_by_row(data, k))
    ours += [timed(lambda: greedy_coreset(data, k)) for _ in range(repeats)]
    seconds, chosen = median(t for t, _ in ours), ours[0][1]
    same = int((chosen == np.array(plain[1])).sum())
    lines = [("offnominal", seconds, chosen), (f"row by row in torch ({same} of {k} the same)", *plain)]
    if peer:
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "rows.npy", data)
            command = [peer, "-c", PEER, str(Path(folder) / "rows.npy"), str(k), str(threads.budget())]
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        lines.append(("anomalib KCenterGreedy", *json.loads(done.stdout.splitlines()[-1])))
    print(
        f"\n## Greedy coreset, {rows} x 512 to {k}\n\n"
        "| | seconds | ratio | covering radius |\n|---|---|---|---|"
    )
    for name, taken, indices in lines:
        print(
            f"| {name} | {taken:.2f} | {taken / seconds:.1f} | {covering_radius(data, data[indices]):.3f} |"
        )


def streaming(rows: int, k: int) -> None:
    """Covering radius and time of the streamed selection, in a budget of an eighth of the rows."""
    data = features(rows, 256)
    data = data[np.argsort(data[:, 0])]  # rows come in an order that drifts
    taken, chosen = timed(lambda: greedy_coreset(data, k))
    radius = covering_radius(data, data[chosen])
    print(
        f"\n## Streaming, {rows} x 256 to {k}\n\n"
        "| summary | budget | seconds | radius ratio |\n|---|---|---|---|"
    )
    print(f"| offline | all | {taken:.2f} | 1 |")
    for summary in (1, 2, 4):
        for share in (8, 32):
            buffer = CoresetBuffer(max(data.nbytes // share, 2 * summary * k * 1024), k)
            buffer.summary = summary
            begin = time.perf_counter()
            for first in range(0, rows, 1024):
                buffer.absorb(data[first : first + 1024])
            bank = buffer.finish()
            taken = time.perf_counter() - begin
            budget, ratio = buffer.budget_bytes / data.nbytes, covering_radius(data, bank) / radius
            print(f"| {summary} | {budget:.3f} | {taken:.2f} | {ratio:.3f} |")


def nearest(sizes: list[int], widths: list[int], repeats: int) -> None:
    print("\n## Nearest row, milliseconds\n")
    print(
        "| queries | bank | width | ours | answer in fp32 | ours in fp32 | cdist + topk | faiss flat | numpy "
        "| best other / ours |"
    )
    print("|" + "---|" * 10)
    for width in widths:
        for size in sizes:
            bank = features(size, width)
            auto, single = (
                NearestRows(bank, approximate=False),
                NearestRows(bank, precision="fp32", approximate=False),
            )
            flat = faiss.IndexFlatL2(width)
            flat.add(bank)
            tensor, transposed = torch.from_numpy(bank), np.ascontiguousarray(bank.T)
            halves = (bank**2).sum(axis=1) / 2
            for count in (784, 1024):
                queries = features(count, width, seed=1)
                ways: dict[str, Callable[[], Any]] = {
                    "auto": lambda q=queries, s=auto: s.search(q, 1),
                    "fp32": lambda q=queries, s=single: s.search(q, 1),
                    "cdist": lambda q=queries, b=tensor: torch.cdist(torch.from_numpy(q), b).topk(
                        1, largest=False
                    ),
                    "faiss": lambda q=queries, f=flat: f.search(q, 1),
                    "numpy": lambda q=queries, b=transposed, h=halves: [
                        (q[i : i + 128] @ b - h).argmax(axis=1) for i in range(0, len(q), 128)
                    ],
                }
                times: dict[str, list[float]] = {name: [] for name in ways}
                for turn in range(repeats + 1):
                    for name, way in ways.items():
                        taken, _ = timed(way)
                        if turn:
                            times[name].append(1000 * taken)
                mid = {name: median(values) for name, values in times.items()}
                same = (auto.search(queries, 1)[1] == single.search(queries, 1)[1]).all()
                ratio = min(mid["cdist"], mid["faiss"], mid["numpy"]) / mid["auto"]
                print(
                    f"| {count} | {size} | {width} | {mid['auto']:.1f} | {'same' if same else 'DIFFERS'} "
                    f"| {mid['fp32']:.1f} | {mid['cdist']:.1f} | {mid['faiss']:.1f} | {mid['numpy']:.1f} "
                    f"| {ratio:.2f} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["coreset", "streaming", "nearest"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 10_000, 16_000, 160_000])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1536])
    asked = parser.parse_args()
    torch.set_num_threads(threads.budget())
    faiss.omp_set_num_threads(threads.budget())
    if asked.only in (None, "coreset"):
        coreset(asked.rows, asked.k, asked.peer_python, asked.repeats)
    if asked.only in (None, "streaming"):
        streaming(asked.rows, asked.k)
    if asked.only in (None, "nearest"):
        nearest(asked.sizes, asked.widths, asked.repeats)


if __name__ == "__main__":
    main()
