"""One run of the image suite in a process of its own, so that its memory is its own.

``python -m offnominal.bench.one TASK.json`` fits a detector on a set's training part, scores its test part,
writes scores to ``out`` (npz) and prints the record as one line of JSON. The task's keys: ``data``, ``set``,
``seed``, ``limit``, ``detector``, ``parameters``, ``rate``, ``out``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.bench import layouts
from offnominal.bench.machine import describe, peak_bytes
from offnominal.bench.measures import (
    SIDE,
    item_measures,
    masked_positions,
    pixel_level,
    verdict_measures,
)
from offnominal.core.errors import BadItem, BadItems
from offnominal.core.store import atomic_path
from offnominal.core.threads import blas_threads
from offnominal.data import resize_map
from offnominal.decide import Conformal
from offnominal.detector import Detector
from offnominal.persistence import make

TIMED = 64
"""Test images that are timed; all are scored."""


def load_split(task: dict[str, Any]) -> layouts.DatasetSplit:
    """The split a task names, at most ``limit`` images a part where it has a limit."""
    split = layouts.load(task["set"], task["data"], task["seed"])
    return split if task["limit"] is None else split.smaller(task["limit"], task["limit"])


def warm(detector: Detector) -> None:
    """Compile the encoder, which a process does once, before anything is timed."""
    encoder = getattr(detector, "features", None)
    if encoder is not None:
        encoder.encode(np.zeros((1, *encoder.size, 3), np.float32))


def common_size(found: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A map at the size at which all are compared."""
    return found if found.shape == (SIDE, SIDE) else resize_map(found, (SIDE, SIDE))


def evaluate(
    detector: Detector, test: layouts.LabelledImages
) -> tuple[npt.NDArray[np.float64], dict[str, float]]:
    """Scores (n,) of all images and, where there are maps and masks, the pixel measures, in one pass."""
    scores = np.full(len(test), np.nan)
    known = masked_positions(test) if detector.card.localises and any(test.labels == 1) else []
    if not any(test.entries[at].label == 1 for at in known):
        known = []
    wanted = set(known)

    def maps() -> Iterator[npt.NDArray[np.float32]]:
        # maps at model size rather than at the image's own: enlarging and shrinking again would blur them
        for position, found in detector._score(
            test, range(len(test)), maps=bool(wanted), own_size=False, label="Scoring"
        ):
            if isinstance(found, BadItem):
                raise BadItems([found])
            scores[position] = found[0]
            if position in wanted and found[1] is not None:
                yield common_size(found[1])

    with blas_threads():
        if known:
            return scores, pixel_level(test, known, maps())
        for _ in maps():
            pass
    return scores, {}


def timings(detector: Detector, test: layouts.LabelledImages) -> dict[str, float]:
    """Milliseconds an image over an evenly spaced sample: reading, model, and both together from files."""
    sample = test.subset(np.unique(np.linspace(0, len(test) - 1, min(TIMED, len(test))).astype(int)))
    began = time.perf_counter()
    items = [sample.read(position) for position in range(len(sample))]
    decode = time.perf_counter() - began
    prepared = [detector._prepare(item) for item in items]
    del items
    with blas_threads():
        began = time.perf_counter()
        for start in range(0, len(prepared), detector.batch_size):
            batch = detector._collate(prepared[start : start + detector.batch_size])
            raw, places = detector._infer(batch)
            detector._assemble(batch, raw, places, own_size=False)
        model = time.perf_counter() - began
    began = time.perf_counter()
    for _ in detector.detect(sample):
        pass
    whole = time.perf_counter() - began
    each = 1e3 / len(sample)
    return {"decode_ms": decode * each, "score_ms": model * each, "detect_ms": whole * each}


def stored_bytes(detector: Detector) -> int:
    """Bytes of the saved model."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        detector.save(model)
        return sum(file.stat().st_size for file in model.rglob("*") if file.is_file())


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Carry out a task; writes the scores and returns the record."""
    split = load_split(task)
    detector = make(task["detector"], "image", **_tuples(task["parameters"]))
    began = time.perf_counter()
    warm(detector)
    load = time.perf_counter() - began
    loaded = peak_bytes()

    began = time.perf_counter()
    detector.fit(split.train, decision=Conformal(task["rate"]))
    fit = time.perf_counter() - began
    fitted = peak_bytes()
    timed = timings(detector, split.test)
    scores, pixels = evaluate(detector, split.test)
    peak = peak_bytes()

    labels = split.test.labels
    products = [reference.product for reference in split.test.references]
    verdicts = None if detector.decision_ is None else detector.decision_.judge(scores, products)
    bases = sorted({basis for basis in verdicts.basis if basis}) if verdicts is not None else []
    with atomic_path(task["out"]) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            scores=scores,
            labels=labels,
            items=np.array([reference.item for reference in split.test.references]),
            p_values=np.full(len(scores), np.nan) if verdicts is None else verdicts.p_value,
            verdicts=np.full(len(scores), -1, np.int8) if verdicts is None else verdicts.anomalous,
        )
    return {
        "train": len(split.train),
        "test": len(split.test),
        "anomalous": int((labels == 1).sum()),
        **item_measures(labels, scores),
        **pixels,
        "rate": task["rate"],
        **verdict_measures(labels, None if verdicts is None else verdicts.anomalous),
        "basis": " ".join(bases) or None,
        "load_s": load,
        "fit_s": fit,
        **timed,
        "loaded_mb": loaded / 1e6,
        "fit_mb": fitted / 1e6,
        "peak_mb": peak / 1e6,
        "model_mb": stored_bytes(detector) / 1e6,
        "environment": detector._environment(),
        "protocol": split.protocol,
        "machine": describe(),
    }


def _tuples(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()}


def main() -> None:
    """Run the task in the file named on the command line."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(run(task)))


if __name__ == "__main__":
    main()
