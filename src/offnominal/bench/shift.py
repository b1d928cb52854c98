"""Detection under distribution shift (S029): one fitted detector on images as they are and corrupted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal import metrics
from offnominal.bench import layouts
from offnominal.bench.machine import mean
from offnominal.bench.runner import Record, Run, carry_out, chosen_sets, image_detectors, read_results
from offnominal.bench.shift_page import write_shift
from offnominal.core.card import find
from offnominal.core.source import Item
from offnominal.core.store import atomic_path
from offnominal.decide import Conformal
from offnominal.persistence import make
from offnominal.pipeline import Mapped
from offnominal.synth import CORRUPTIONS, corrupt

LEVELS = (1, 3, 5)
"""Severities that are run."""


class Corrupted:
    """Corrupts an item's image, with noise of its own."""

    def __init__(self, kind: str, severity: int, seed: int) -> None:
        self.kind, self.severity, self.seed = kind, severity, seed

    def __call__(self, item: Item) -> npt.NDArray[Any]:
        """The image of an item, corrupted."""
        number = sum(item.reference.item.encode())  # the same noise whatever the order
        return corrupt(item.value, self.kind, self.severity, seed=self.seed + number)


def run_shift(
    data: str | os.PathLike[str],
    detectors: Sequence[str] | None = None,
    out: str | os.PathLike[str] = "results",
    *,
    seeds: Sequence[int] = (0, 1, 2),
    sets: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[Record]:
    """Measure detectors on shifted test images; what is done already is not done again.

    For every set, detector and seed: fit on the training part as it is, score the test part as it is and
    under every corruption at severities 1, 3 and 5. Normal and anomalous images are corrupted alike, so a
    detector that takes the shift for the anomaly loses. No corrupted image is seen while fitting.

    Parameters
    ----------
    data, detectors, out, seeds, sets, limit
        As for `run_suite`; results are kept in the folder ``shift`` of ``out``, with the pages ``shift.md``
        and ``shift.html``.

    Returns
    -------
    list of dict
        One record a run: ``auroc``, ``shifted`` (AUROC and false-alarm rate by corruption and severity),
        ``shifted_auroc`` (their mean).

    Raises
    ------
    As `run_suite`.
    """
    names = list(detectors) if detectors is not None else image_detectors()
    for name in names:
        find(name, "image")
    runs = [
        Run(entry, seed, name, name, {"seed": seed}, limit)
        for entry in chosen_sets(data, sets)
        for seed in seeds
        for name in names
    ]
    folder = Path(out) / "shift"

    def execute(run: Run, place: Path) -> Record:
        return measure(run, data, place)

    try:
        return carry_out(runs, folder, execute)
    finally:
        if records := read_results(folder):
            write_shift(records, data, folder)


def measure(run: Run, data: str | os.PathLike[str], place: Path) -> Record:
    """Carry out one run; writes the scores and returns the record."""
    split = layouts.load(run.set, Path(data), run.seed)
    if run.limit is not None:
        split = split.smaller(run.limit, run.limit)
    detector = make(run.detector, "image", **run.parameters)
    detector.fit(split.train, decision=Conformal(run.rate))
    labels = split.test.labels
    scores = {"as it is": detector.anomaly_score(split.test)}
    for kind in CORRUPTIONS:
        for severity in LEVELS:
            source = Mapped(split.test, Corrupted(kind, severity, run.seed))
            scores[f"{kind} {severity}"] = detector.anomaly_score(source)
    products = [reference.product for reference in split.test.references]
    found: dict[str, dict[str, Any]] = {}
    for name, values in scores.items():
        verdicts = (
            None if detector.decision_ is None else detector.decision_.judge(values, products).anomalous
        )
        alarms = None if verdicts is None else metrics.realised_false_alarm_rate(labels, verdicts)
        found[name] = {"auroc": metrics.auroc(labels, values), "false_alarm_rate": alarms}
    with atomic_path(place) as temporary, temporary.open("wb") as file:
        names = np.array(list(scores))
        np.savez_compressed(file, labels=labels, names=names, scores=np.stack(list(scores.values())))
    plain = found.pop("as it is")
    return {
        "train": len(split.train),
        "test": len(split.test),
        **plain,
        "shifted": found,
        "shifted_auroc": mean([float(entry["auroc"]) for entry in found.values()]),
    }
