"""Accuracy of our PatchCore and PaDiM beside anomalib's, on the same files, weights, levels and bank rows.

    python benchmarks/image_accuracy.py --data DIR --out results --peer-python FOLDER/venv/bin/python
        [--sets a,b] [--seeds 0,1,2] [--models patchcore,padim] [--limit N]

Finished runs are kept in the folder ``results`` and not done again; it may be the one of
``offnominal bench``, whose runs then count. Writes ``image_peer.md`` and ``image_peer.csv`` beside them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from offnominal.bench import RunsFailedError, layouts, read_results
from offnominal.bench.comparison import write_comparison
from offnominal.bench.machine import describe
from offnominal.bench.measures import SIDE, item_measures, masked_positions, pixel_level
from offnominal.bench.one import load_split
from offnominal.bench.runner import Record, Run, carry_out, chosen_sets, in_process, run_script
from offnominal.core.progress import say, shown
from offnominal.core.store import atomic_path
from offnominal.core.threads import budget
from offnominal.encoders import image_encoder
from offnominal.encoders.weights import resolve
from offnominal.persistence import make

SCRIPT = Path(__file__).parent / "peers" / "anomalib_run.py"
ENCODER = "efficientnet_lite2"
PAIRS = {
    "patchcore": "anomalib patchcore",
    "patchcore 1 %": "anomalib patchcore",
    "padim": "anomalib padim",
}
RATIO = 0.01


def bank_rows(images: int, levels: tuple[str, ...]) -> int:
    """Rows of the peer's bank: 1 % of all patches."""
    grids = image_encoder(ENCODER, levels=levels, size=SIDE).grids
    return max(1, int(images * max(height * width for height, width in grids) * RATIO))


def runs_of(
    name: str, seed: int, train: int, models: list[str], limit: int | None
) -> tuple[list[Run], list[Run]]:
    """Our runs and the peer's on one set under one seed."""
    levels = image_encoder(ENCODER, size=SIDE).levels
    shared = {"backbone": ENCODER, "layers": list(levels), "image_size": SIDE, "seed": seed}
    ours, theirs = [], []
    if "patchcore" in models:
        rows = bank_rows(train, levels)
        ours += [
            Run(name, seed, "patchcore", "patchcore", {"seed": seed}, limit),
            Run(name, seed, "patchcore 1 %", "patchcore", {"seed": seed, "bank_size": rows}, limit),
        ]
        given = {**shared, "model": "patchcore", "bank_rows": rows}
        theirs.append(Run(name, seed, "anomalib patchcore", "anomalib patchcore", given, limit))
    if "padim" in models:
        ours.append(Run(name, seed, "padim", "padim", {"seed": seed}, limit))
        given = {**shared, "model": "padim", "n_features": make("padim").get_params()["dimensions"]}
        theirs.append(Run(name, seed, "anomalib padim", "anomalib padim", given, limit))
    return ours, theirs


def peer_process(data: Path, python: Path, timeout: float) -> Callable[[Run, Path], Record]:
    """A way to do a run of the peer's: in its own environment."""

    def execute(run: Run, place: Path) -> Record:
        split = load_split({"set": run.set, "data": data, "seed": run.seed, "limit": run.limit})
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "peer.npz"
            task = {
                **run.parameters,
                "train": [str(path.resolve()) for path in split.train.paths],
                "test": [str(path.resolve()) for path in split.test.paths],
                "weights": str(resolve(ENCODER).path),
                "out": str(raw),
                "threads": budget(),
                "maps": SIDE if split.has_masks else 0,
            }
            # the interpreter's own path, not what it links to: that is what makes it the environment's
            report = run_script([os.path.abspath(python), str(SCRIPT.resolve())], task, timeout)
            with np.load(raw, allow_pickle=False) as file:
                return record_of(split, dict(file), report, place)

    return execute


def record_of(
    split: layouts.DatasetSplit, arrays: dict[str, np.ndarray], report: dict[str, Any], place: Path
) -> Record:
    """The peer's arrays as a record of the same form as ours; keeps its scores."""
    scores, labels = arrays["scores"], split.test.labels
    if not np.isfinite(scores).all():
        raise RuntimeError("the peer gave scores that are not finite")
    pixels: dict[str, float] = {}
    if "maps" in arrays:
        known = masked_positions(split.test)
        pixels = pixel_level(split.test, known, (arrays["maps"][at].astype(np.float32) for at in known))
    with atomic_path(place) as temporary, temporary.open("wb") as file:
        items = np.array([reference.item for reference in split.test.references])
        np.savez_compressed(file, scores=scores, labels=labels, items=items)
    stages = report["stages_s"]
    return {
        "train": len(split.train),
        "test": len(split.test),
        "anomalous": int((labels == 1).sum()),
        **item_measures(labels, scores),
        **pixels,
        "bank_rows": report["bank_rows"],
        "load_s": stages["load"],
        "fit_s": stages["train_decode"] + stages["train_features"] + stages["fit"],
        "decode_ms": 1e3 * float(np.median(arrays["decode_seconds"])),
        "score_ms": 1e3 * float(np.median(arrays["score_seconds"] / arrays["score_counts"])),
        "loaded_mb": report["peak_bytes_after_load"] / 1e6,
        "peak_mb": report["peak_bytes"] / 1e6,
        "machine": describe(),
        "peer_versions": report["versions"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--peer-python", type=Path, help="left out: only finished runs of the peer count")
    parser.add_argument("--sets", type=lambda text: text.split(","))
    parser.add_argument(
        "--seeds", type=lambda text: [int(word) for word in text.split(",")], default=[0, 1, 2]
    )
    parser.add_argument("--models", type=lambda text: text.split(","), default=["patchcore", "padim"])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds a run may take")
    asked = parser.parse_args()
    failures = []
    with shown():
        for seed in asked.seeds:
            for name in chosen_sets(asked.data, asked.sets):
                split = load_split({"set": name, "data": asked.data, "seed": seed, "limit": asked.limit})
                ours, theirs = runs_of(name, seed, len(split.train), asked.models, asked.limit)
                ways = [(ours, in_process(asked.data, asked.timeout))]
                if asked.peer_python:
                    ways.append((theirs, peer_process(asked.data, asked.peer_python, asked.timeout)))
                for runs, way in ways:
                    try:
                        carry_out(runs, asked.out, way)
                    except RunsFailedError as error:
                        failures.append(str(error))
        for path in write_comparison(read_results(asked.out), asked.out, asked.out, PAIRS):
            say(f"wrote {path}")
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
