"""Speed of our vector detectors beside PyOD's: fit and score n rows of d columns, in turns.

    python benchmarks/speed_table.py --out results --peer-python FOLDER/venv/bin/python
        [--sizes 10000,100000] [--columns 20] [--rounds 5] [--detectors knn,lof] [--timeout S]

Seconds are processor time of one thread (set OFFNOMINAL_THREADS=1), which a shared machine does not stretch.
Rows are correlated Gaussian clusters with 2 % uniform noise, the same on both sides; as many new rows as were
fitted are scored. The peer's ``fit`` scores its training rows and takes a threshold from them. Ours is timed
twice: ``fit`` with the cross-fitting its decision rests on (as many models as folds and one more, unless the
method leaves each row out of its own neighbours), and ``model``, which only learns; each with the scoring of
the new rows. The ratio of ``fit`` to the peer's is the one that counts. Detectors whose cost grows faster
than n² run at the smallest size only. Finished detectors are kept in OUT/speed_table.json and not done again.
Writes OUT/speed_table.md.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from table_accuracy import peer_worker, peers

from offnominal.bench.machine import describe, header
from offnominal.core.progress import say, shown
from offnominal.core.seeds import generator
from offnominal.core.store import read_json, write_json, write_text
from offnominal.core.threads import blas_threads
from offnominal.data import tables
from offnominal.persistence import make
from offnominal.report import Column, markdown_table
from offnominal.table.blocks import whole

SMALL_ONLY = ("abod", "cof", "feature_bagging", "kde", "ocsvm", "sod")
"""Detectors whose cost, on either side, is n² or more in time or memory."""
SAME_WORK = {"gmm": {"n_components": 3}, "loda": {"n_bins": "auto"}, "inne": {"max_samples": 8}}
"""Parameters with which the peer does what our defaults do; elsewhere both have their defaults."""


def made_rows(count: int, columns: int, seed: int) -> np.ndarray:
    """Rows (count, columns): three correlated clusters and 2 % noise."""
    shape = generator(0, "speed", str(columns))
    centres = shape.normal(0, 3, (3, columns))
    mixing = shape.normal(0, 1, (3, columns, columns)) / np.sqrt(columns)
    random = generator(seed, "speed", str(count))
    kind = random.integers(0, 3, count)
    rows = np.empty((count, columns))
    for place in range(3):
        here = kind == place
        rows[here] = centres[place] + random.normal(size=(here.sum(), columns)) @ mixing[place]
    noise = random.random(count) < 0.02
    rows[noise] = random.uniform(-8, 8, (noise.sum(), columns))
    return rows


def ours(name: str, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Seconds of a whole fit, and of the scoring of new rows."""
    detector = make(name, "table")
    began = time.process_time()
    detector.fit(train)
    fitted = time.process_time()
    detector.anomaly_score(test)
    scored = time.process_time()
    return {"fit": fitted - began, "score": scored - fitted}


def model_only(name: str, train: np.ndarray) -> float:
    """Seconds of learning alone: survey, encoding and model, without a decision."""
    detector = make(name, "table")
    began = time.process_time()
    source = tables(train)
    with blas_threads():
        every = np.arange(len(source))
        detector._survey(source, every)
        if detector.card.streams:
            detector._begin()
            for _, batch in detector._batches(source, every):
                detector._absorb(batch)
            detector._finish()
        else:
            detector._learn_rows(whole(detector.encoding, source, every, detector.batch_size))
            detector._prepared()
    return time.process_time() - began


def measure(name: str, size: int, columns: int, rounds: int, peer: Any, folder: Path) -> dict[str, Any]:
    """Seconds of both sides in turn; the first round warms up and does not count."""
    train, test = made_rows(size, columns, 1), made_rows(size, columns, 2)
    given = folder / f"{size}-{columns}.npz"
    if not given.is_file():
        np.savez(given, train=train, test=test)
    found: dict[str, list[float]] = {key: [] for key in ("fit", "score", "model", "peer fit", "peer score")}
    began = time.process_time()
    for number in range(rounds + 1):
        took = ours(name, train, test)
        model = model_only(name, train)
        given_work = SAME_WORK.get(name, {})
        theirs = peer.ask({"split": str(given), "detector": name, "seed": 0, "parameters": given_work})
        if number or rounds == 0:
            for key, value in (
                ("fit", took["fit"]),
                ("score", took["score"]),
                ("model", model),
                ("peer fit", theirs["fit_s"]),
                ("peer score", theirs["score_s"]),
            ):
                found[key].append(value)
        if number and time.process_time() - began > 60:
            break
    return {"seconds": found, "versions": theirs["versions"], "machine": describe()}


def rows_of(parts: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a detector and size, medians and ratios within rounds."""
    rows = []
    for key, part in parts.items():
        name, size = key.split()
        took = part["seconds"]
        peer = [a + b for a, b in zip(took["peer fit"], took["peer score"], strict=True)]
        whole_of = [a + b for a, b in zip(took["fit"], took["score"], strict=True)]
        bare = [a + b for a, b in zip(took["model"], took["score"], strict=True)]
        rows.append(
            {
                "detector": name,
                "n": int(size),
                **{title: median(took[title]) for title in took},
                "faster": median(b / a for a, b in zip(whole_of, peer, strict=True)),
                "bare": median(b / a for a, b in zip(bare, peer, strict=True)),
            }
        )
    return sorted(rows, key=lambda row: (row["n"], row["detector"]))


def slopes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Log-log slopes of fit and score between the smallest and the largest size."""
    found = []
    for name in sorted({row["detector"] for row in rows}):
        there = sorted((row for row in rows if row["detector"] == name), key=lambda row: row["n"])
        if len(there) > 1:
            low, high = there[0], there[-1]
            apart = math.log(high["n"] / low["n"])
            found.append(
                {
                    "detector": name,
                    **{key: math.log(high[key] / low[key]) / apart for key in ("fit", "score", "peer fit")},
                }
            )
    return found


def geometric(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def page(parts: dict[str, Any]) -> str:
    text = header(
        "Speed of vector detectors",
        [
            "python benchmarks/speed_table.py --out results --peer-python FOLDER/venv/bin/python",
        ],
        [part["machine"] for part in parts.values()],
    )
    versions = {f"{name} {number}" for part in parts.values() for name, number in part["versions"].items()}
    text += (
        f"Beside {', '.join(sorted(versions))}. The same rows, processor seconds, one thread on both sides, "
        "in turns; medians over the turns, ratios within a turn, the first turn (which compiles) left out. "
        "The peer has `n_components=3` for gmm, `n_bins='auto'` for loda and `max_samples=8` for inne, as "
        "our defaults are; else both sides have their own defaults.\n\n"
        "`fit` is our whole fit, with the calibration the decision rests on: folds, or each row left out. "
        "`model` is learning alone. The peer's fit scores its training rows and takes a threshold from them, "
        "which gives no p-values and is not held out: `times faster` sets our whole fit and scoring against "
        "the peer's, `model alone` our learning and scoring.\n"
    )
    rows = rows_of(parts)
    columns: list[str | Column] = ["detector"]
    columns += [Column(key, f"{key} s", 3) for key in ("fit", "model", "score", "peer fit", "peer score")]
    columns += [Column("faster", "times faster", 2), Column("bare", "model alone", 2)]
    for size in sorted({row["n"] for row in rows}):
        there = [row for row in rows if row["n"] == size]
        text += f"\n## {size:,} rows\n\n{markdown_table(there, columns)}".replace(",", "\N{NO-BREAK SPACE}")
        faster, bare = ([row[key] for row in there] for key in ("faster", "bare"))
        text += (
            f"\nGeometric mean over {len(there)} detectors: {geometric(faster):.2f} times faster with the "
            f"calibration, {geometric(bare):.2f} without; the least: {min(faster):.2f}.\n"
        )
    if found := slopes(rows):
        titles: list[str | Column] = [
            "detector",
            *(Column(key, key, 2) for key in ("fit", "score", "peer fit")),
        ]
        text += (
            f"\n## Growth of the cost\n\nLog–log slopes between the sizes.\n\n{markdown_table(found, titles)}"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument(
        "--sizes", type=lambda text: [int(word) for word in text.split(",")], default=[10_000, 100_000]
    )
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--detectors", type=lambda text: text.split(","), default=None)
    parser.add_argument("--timeout", type=float, default=600.0)
    asked = parser.parse_args()
    kept = asked.out / "speed_table.json"
    parts: dict[str, Any] = read_json(kept) if kept.is_file() else {}
    with (
        shown(),
        tempfile.TemporaryDirectory() as folder,
        peer_worker(asked.peer_python, asked.timeout) as peer,
    ):
        for size in asked.sizes:
            for name in asked.detectors or sorted(peers()):
                key = f"{name} {size}"
                if key in parts or (size > min(asked.sizes) and name in SMALL_ONLY):
                    continue
                try:
                    parts[key] = measure(name, size, asked.columns, asked.rounds, peer, Path(folder))
                except RuntimeError as error:
                    say(f"{name} at {size}: the peer {error}")
                    continue
                write_json(kept, parts)
                row = rows_of({key: parts[key]})[0]
                say(f"{name} at {size}: {row['faster']:.2f} times faster, model alone {row['bare']:.2f}")
    write_text(asked.out / "speed_table.md", page(parts))


if __name__ == "__main__":
    main()
