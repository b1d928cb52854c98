"""Accuracy of our vector detectors beside PyOD's, on ADBench's splits, both with their default parameters.

    python benchmarks/table_accuracy.py --data DIR --out results --peer-python FOLDER/venv/bin/python
        [--sets a,b] [--seeds 0,1,2] [--detectors knn,lof] [--unscaled] [--limit N] [--timeout S]

``benchmarks/peers/pyod.txt`` says how to make the peer's environment. With ``--unscaled``, detectors that
scale columns are run a second time on the columns as the peer sees them, which compares the methods alone.
Finished runs are kept in the folder ``results`` and not done again; it may be the one of ``offnominal bench
table``. Writes ``table_peer.md`` and ``table_peer.csv`` beside them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from offnominal.bench import RunsFailedError, read_results
from offnominal.bench.layouts import adbench
from offnominal.bench.machine import describe
from offnominal.bench.runner import Record, Run, carry_out
from offnominal.bench.table_comparison import write_table_comparison
from offnominal.bench.table_one import item_measures, keep_scores, load_split
from offnominal.bench.table_suite import chosen_tables, in_worker, own_worker, table_detectors
from offnominal.bench.worker import Worker
from offnominal.core.progress import say, shown
from offnominal.core.threads import budget
from offnominal.persistence import make

SCRIPT = Path(__file__).parent / "peers" / "pyod_server.py"


def environment() -> dict[str, str]:
    """The peer's variables: as many threads as ours."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(budget()))}


def peer_worker(python: Path, timeout: float) -> Worker:
    """The peer's process: the environment's own interpreter, not what it links to."""
    return Worker([os.path.abspath(python), str(SCRIPT.resolve())], timeout, environment())


def peer_runs(data: Path, worker: Worker, folder: Path) -> Callable[[Run, Path], Record]:
    """A way to do a run of the peer's."""

    def execute(run: Run, place: Path) -> Record:
        split = load_split(str(data), run.set, run.seed, run.limit)
        given = folder / f"{run.set.replace('/', '-')}-{run.seed}-{run.limit}.npz"
        if not given.is_file():
            for old in folder.glob("*.npz"):
                old.unlink()
            np.savez(given, train=split.train, test=split.test)
        raw = folder / "scores.npy"
        task = {"split": str(given), "seed": run.seed, "detector": run.detector.split()[1], "out": str(raw)}
        answer = worker.ask(task)
        scores = np.load(raw, allow_pickle=False)
        if not np.isfinite(scores).all():
            raise RuntimeError(
                f"the peer gave {int((~np.isfinite(scores)).sum())} scores that are not finite"
            )
        keep_scores(place, split, scores)
        return {
            "train": len(split.train),
            "test": len(split.test),
            "columns": split.train.shape[1],
            "anomalous": int((split.labels == 1).sum()),
            **item_measures(split.labels, scores),
            "fit_s": answer["fit_s"],
            "score_s": answer["score_s"],
            "protocol": adbench.PROTOCOL,
            "machine": describe(),
            "peer_versions": answer["versions"],
        }

    return execute


def runs_of(
    name: str, seed: int, detectors: list[str], limit: int | None, unscaled: bool
) -> tuple[list[Run], list[Run]]:
    """Our runs and the peer's on one set under one seed."""
    ours, theirs = [], []
    for detector in detectors:
        ours.append(Run(name, seed, detector, detector, {"seed": seed}, limit))
        if unscaled and make(detector, "table").get_params()["scaling"] != "none":
            given = {"seed": seed, "scaling": "none"}
            ours.append(Run(name, seed, f"{detector} unscaled", detector, given, limit))
        theirs.append(Run(name, seed, f"pyod {detector}", f"pyod {detector}", {"seed": seed}, limit))
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--peer-python", type=Path, help="left out: only finished runs of the peer count")
    parser.add_argument("--sets", type=lambda text: text.split(","))
    parser.add_argument(
        "--seeds", type=lambda text: [int(word) for word in text.split(",")], default=[0, 1, 2]
    )
    parser.add_argument("--detectors", type=lambda text: text.split(","), default=None)
    parser.add_argument("--unscaled", action="store_true")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a run may take")
    asked = parser.parse_args()
    detectors = asked.detectors or [name for name in table_detectors() if name in peers()]
    failures: list[str] = []
    with shown(), tempfile.TemporaryDirectory() as folder, own_worker(asked.timeout) as worker:
        ways: list[Any] = [in_worker(asked.data, worker)]
        peer = peer_worker(asked.peer_python, asked.timeout) if asked.peer_python else None
        if peer is not None:
            ways.append(peer_runs(asked.data, peer, Path(folder)))
        for seed in asked.seeds:
            for name in chosen_tables(asked.data, asked.sets):
                sides = runs_of(name, seed, detectors, asked.limit, asked.unscaled)
                for runs, way in zip(sides, ways, strict=False):
                    try:
                        carry_out(runs, asked.out, way)
                    except RunsFailedError as error:
                        failures.append(str(error))
        if peer is not None:
            peer.close()
        for path in write_table_comparison(read_results(asked.out), asked.out):
            say(f"wrote {path}")
    if failures:
        raise SystemExit("\n".join(failures))


def peers() -> set[str]:
    """Names of the detectors that the peer has too."""
    text = SCRIPT.read_text(encoding="utf-8")
    return {line.split('"')[1] for line in text.splitlines() if line.startswith('    "') and '": ("' in line}


if __name__ == "__main__":
    main()
