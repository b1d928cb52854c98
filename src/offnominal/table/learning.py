"""How a vector detector is fitted so that its decision rests on scores of rows it has not seen.

As `offnominal.learning` does it, in arrays: a table may have a million items.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItems
from offnominal.core.seeds import generator
from offnominal.core.source import Source
from offnominal.data.split import folds
from offnominal.pipeline import Positions, Scores
from offnominal.resume import Checkpoint
from offnominal.table.blocks import Matrix, Places, encoded, reads_blocks, whole

if TYPE_CHECKING:
    from offnominal.table.detector import TableDetector


class HeldOut(NamedTuple):
    """Positions (n,), their scores, and the largest value of each one's map, where there are maps."""

    positions: Places
    scores: Scores
    peaks: npt.NDArray[np.float64] | None


NOTHING = HeldOut(np.empty(0, np.intp), np.empty(0), None)


def learn(
    detector: TableDetector,
    source: Source,
    positions: Places,
    checkpoint: str | os.PathLike[str] | None,
) -> HeldOut:
    """Fit the final model, and score rows by models that have not seen them.

    Where a method can leave each row out of its own neighbours, that is done (unless rows belong together);
    else by folds.
    """
    parts = parts_of(detector, source, positions)
    judged = len(parts) > 1 and len(positions) - max(map(len, parts)) >= detector.least_items
    if detector.card.streams:
        if leaves_out(detector) and judged and not belongs_together(source):
            # Nothing is judged by folds: rows are read from first to last, in pieces where progress is kept.
            pieces = [positions] if checkpoint is None else np.array_split(positions, len(parts))
            _absorbed(detector, source, pieces, checkpoint).clear()
            return _left_out(detector, source, positions)
        return _in_pieces(detector, source, parts, judged, checkpoint)
    matrix = whole(detector.encoding, source, positions, detector.batch_size)
    detector._learn_rows(matrix)
    detector._prepared()
    if not belongs_together(source) and (left := detector._left_out(matrix)) is not None:
        scores, contributed = left
        peaks = None if contributed is None else peaks_of(detector.encoding.fold(contributed))
        return HeldOut(positions, np.asarray(scores, dtype=np.float64), peaks)
    return _folded(detector, matrix, positions, parts) if judged else NOTHING


def _folded(detector: TableDetector, matrix: Matrix, positions: Places, parts: list[Places]) -> HeldOut:
    scores, peaks = np.empty(len(positions)), np.empty(len(positions))
    mapped = False
    for part in parts:
        rows = np.searchsorted(positions, part)
        judge = detector._worker(1.0)
        judge._learn_fold(np.delete(matrix, rows, axis=0), detector)
        judge._prepared()
        for first in range(0, len(rows), detector.batch_size):
            some = rows[first : first + detector.batch_size]
            if not detector.card.localises:
                scores[some] = judge._score_rows(matrix[some])
                continue
            scores[some], contributed = judge._explained(matrix[some])
            if contributed is not None:
                peaks[some] = peaks_of(detector.encoding.fold(contributed))
                mapped = True
    if not np.isfinite(scores).all():
        raise FloatingPointError(f"{detector.card.name} made a score that is not finite")
    return HeldOut(positions, scores, peaks if mapped else None)


def _in_pieces(
    detector: TableDetector,
    source: Source,
    parts: list[Places],
    judged: bool,
    checkpoint: str | os.PathLike[str] | None,
) -> HeldOut:
    workers: list[TableDetector] = []
    saved = _absorbed(detector, source, parts, checkpoint, workers)
    found = []
    for number, part in enumerate(parts if judged else []):
        judge = detector._worker(1.0)
        judge._begin()
        for other, worker in enumerate(workers):
            if other != number:
                judge._merge(worker)
        judge._finish()
        found.append(held_out(judge, source, part))
    saved.clear()
    return _joined(found)


def _absorbed(
    detector: TableDetector,
    source: Source,
    parts: list[Places],
    checkpoint: str | os.PathLike[str] | None,
    kept: list[TableDetector] | None = None,
) -> Checkpoint:
    """Learn each part by a worker of its own, and the detector from all; ``kept`` receives the workers."""
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
    if kept is not None:
        kept += workers
    return saved


def leaves_out(detector: TableDetector) -> bool:
    """Whether a method can leave each training row out."""
    from offnominal.table.detector import TableDetector

    return type(detector)._left_out is not TableDetector._left_out


def _left_out(detector: TableDetector, source: Source, positions: Places) -> HeldOut:
    """Scores of training rows, each left out, block by block."""
    found: list[HeldOut] = []
    for part in encoded(detector.encoding, source, positions, detector.batch_size, "Calibrating"):
        if part.bad:
            raise BadItems([entry for _, entry in part.bad])
        left = detector._left_out(part.matrix)
        assert left is not None
        peaks = None if left[1] is None else peaks_of(detector.encoding.fold(left[1]))
        found.append(HeldOut(part.good, np.asarray(left[0], dtype=np.float64), peaks))
    return _joined(found)


def held_out(detector: TableDetector, source: Source, positions: Positions) -> HeldOut:
    """Score rows that are known to be usable.

    Raises
    ------
    BadItems
        They are not.
    """
    found: list[HeldOut] = []
    bad = []
    for block in detector._scored(source, positions, maps=True, label="Calibrating"):
        bad += [entry for _, entry in block.bad]
        if len(block.good):
            peaks = None if block.maps is None else peaks_of(block.maps)
            found.append(HeldOut(block.good, block.scores, peaks))
    if bad:
        raise BadItems(bad)
    return _joined(found)


def _joined(found: list[HeldOut]) -> HeldOut:
    if not found:
        return NOTHING
    positions = np.concatenate([part.positions for part in found])
    scores = np.concatenate([part.scores for part in found])
    peaks = [part.peaks for part in found if part.peaks is not None]
    order = np.argsort(positions, kind="stable")
    return HeldOut(positions[order], scores[order], np.concatenate(peaks)[order] if peaks else None)


def parts_of(detector: TableDetector, source: Source, positions: Places) -> list[Places]:
    """Folds, ascending: of rows that stand for themselves by one permutation, else as `split.folds` does."""
    if belongs_together(source):
        references = [source.references[int(position)] for position in positions]
        return [positions[part] for part in folds(references, detector.n_folds, detector.seed)]
    k = min(detector.n_folds, len(positions))
    shuffled = generator(detector.seed, "split", "folds").permutation(len(positions))
    return [np.sort(positions[shuffled[first::k]]) for first in range(k)]


def belongs_together(source: Source) -> bool:
    """Whether rows of the source name groups or products."""
    if reads_blocks(source):
        return source.groups is not None or source.products is not None  # type: ignore[attr-defined]
    return any(reference.group or reference.product for reference in source.references)


def products_of(source: Source, positions: Places) -> list[str | None]:
    """Product of each position."""
    if reads_blocks(source):
        products = source.products  # type: ignore[attr-defined]
        return [None] * len(positions) if products is None else products[positions].tolist()
    return [source.references[int(position)].product for position in positions]


def groups_of(source: Source, positions: Places) -> list[str | None]:
    """Group of each position."""
    if reads_blocks(source):
        groups = source.groups  # type: ignore[attr-defined]
        return [None] * len(positions) if groups is None else groups[positions].tolist()
    return [source.references[int(position)].group for position in positions]


def peaks_of(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Largest value (n,) of each map (n, d)."""
    peaks: npt.NDArray[np.float64] = maps.max(axis=1).astype(np.float64)
    return peaks
