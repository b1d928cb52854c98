"""How a detector is fitted so that its decision rests on scores of items it has not seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadItems
from offnominal.core.source import Source
from offnominal.data.split import folds, holdout
from offnominal.resume import Checkpoint

if TYPE_CHECKING:
    from offnominal.detector import Detector

HeldOut = tuple[dict[int, float], dict[int, float]]
"""Scores and map peaks by position."""


def learn(
    detector: Detector,
    source: Source,
    positions: Sequence[int],
    labels: npt.NDArray[np.int8],
    groups: npt.NDArray[np.intp] | None,
    checkpoint: str | os.PathLike[str] | None,
) -> HeldOut:
    """Fit the final model, and score items by models that have not seen them.

    A method that trains holds a part out. One that does not is fitted on all items, and once more on all but
    each fold; one that learns in pieces absorbs each fold once, and merges what it needs.

    Parameters
    ----------
    detector : Detector
        Becomes the final model.
    source : Source
    positions : sequence of int
        Items to learn from.
    labels : ndarray (len(source),)
    groups : ndarray (n,) or None
        Of those items; a group is never split.
    checkpoint : path or None
        Where progress is kept.
    """
    references = [source.references[position] for position in positions]
    order = np.asarray(positions)
    if detector.card.trains:
        detector._checkpoint = None if checkpoint is None else Path(checkpoint)
        train, held = holdout(references, detector.held_out_share, detector.seed, groups=groups)
        detector._fit(source.subset(order[train]), labels[order[train]])
        return _held_out(detector, source, order[held])
    parts = [order[part] for part in folds(references, detector.n_folds, detector.seed, groups=groups)]
    judged = len(parts) > 1 and len(order) - max(map(len, parts)) >= detector.least_items
    if detector.card.streams:
        return _learn_in_pieces(detector, source, parts, judged, checkpoint)
    detector._fit(source.subset(order), labels[order])
    scores: dict[int, float] = {}
    peaks: dict[int, float] = {}
    for part in parts if judged else []:
        rest = np.setdiff1d(order, part)
        judge = detector._worker(1.0)
        judge._fit(source.subset(rest), labels[rest])
        more = _held_out(judge, source, part)
        scores.update(more[0])
        peaks.update(more[1])
    return scores, peaks


def _learn_in_pieces(
    detector: Detector,
    source: Source,
    parts: list[npt.NDArray[np.intp]],
    judged: bool,
    checkpoint: str | os.PathLike[str] | None,
) -> HeldOut:
    saved = Checkpoint(checkpoint, detector, source, parts)
    workers = [detector._worker(1 / len(parts)) for _ in parts]
    for number, (worker, part) in enumerate(zip(workers, parts, strict=True)):
        worker._begin()
        if (state := saved.load(number)) is not None:
            worker._unpause(state)
            continue
        for _, batch in worker._batches(source, part, label=f"Learning, part {number + 1} of {len(parts)}"):
            worker._absorb(batch)
        saved.store(number, worker._pause)
    detector._begin()
    for worker in workers:
        detector._merge(worker)
    detector._finish()
    scores: dict[int, float] = {}
    peaks: dict[int, float] = {}
    if judged:
        for worker in workers:
            worker._compact()
        for number, part in enumerate(parts):
            judge = detector._worker(1.0)
            judge._begin()
            for other, worker in enumerate(workers):
                if other != number:
                    judge._merge(worker)
            judge._finish()
            more = _held_out(judge, source, part)
            scores.update(more[0])
            peaks.update(more[1])
    saved.clear()
    return scores, peaks


def _held_out(detector: Detector, source: Source, positions: Sequence[int] | npt.NDArray[np.intp]) -> HeldOut:
    scores: dict[int, float] = {}
    peaks: dict[int, float] = {}
    for position, found in detector._score(source, positions, maps=True, own_size=False, label="Calibrating"):
        if isinstance(found, BadItem):
            raise BadItems([found])
        scores[position] = found[0]
        if found[1] is not None:
            peaks[position] = float(found[1].max())
    return scores, peaks
