"""What all vector detectors share: rows in blocks, their encoding, contributions of columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from offnominal.core.detections import Detection, Region
from offnominal.core.errors import BadItem, BadItems
from offnominal.core.source import Item, Source
from offnominal.core.threads import blas_threads
from offnominal.data import open_source
from offnominal.decide import Conformal, Decision
from offnominal.detector import Detector
from offnominal.pipeline import Found, Map, Positions, Scores
from offnominal.table.blocks import (
    ONE_BY_ONE,
    Matrix,
    Places,
    as_rows,
    bad_row,
    blocks,
    encoded,
    reads_blocks,
)
from offnominal.table.encoding import Encoding, Missing, Scaling
from offnominal.table.fit_encoding import EncodingFit
from offnominal.table.learning import groups_of, held_out, learn, products_of

_JUDGED = 1_024  # records that are judged at once
_SHOWN = 10  # columns a record names, at most


class ScoredBlock(NamedTuple):
    """Scores (n,) and maps (n, d) of the ``good`` positions asked for; what is wrong with the others."""

    asked: Places
    good: Places
    scores: Scores
    maps: npt.NDArray[np.float32] | None
    bad: list[tuple[int, BadItem]]


class TableDetector(Detector):
    """Base of vector detectors.

    A method sees matrices (n, width) of encoded rows. It implements `_learn_rows` (or the streaming hooks,
    whose batches are such matrices), `_score_rows`, and `_prepared` for what is derived from what it learned;
    where it localises, `_contributions` says what each encoded column adds to a row's score. One that can
    leave each training row out of its own neighbours says so in `_left_out`, which then takes the place of
    cross-fitting.

    Parameters every vector detector has
    ------------------------------------
    scaling : {"standard", "robust", "none"}
        How number columns are scaled: mean and standard deviation, median and interquartile range, not.
    missing : {"refuse", "impute"}
        Whether rows with a missing value are bad items, or get the training median and an indicator column.
    seed : int
        Seed of everything random.
    """

    batch_size: ClassVar[int] = 8_192
    least_items: ClassVar[int] = 2

    scaling: Scaling
    missing: Missing

    encoding_: dict[str, Any]
    _made: tuple[dict[str, Any], Encoding] | None = None

    # ---------------------------------------------------------------- what a method implements

    def _learn_rows(self, rows: Matrix) -> None:
        """Learn from encoded rows (n, width), in one go."""
        raise TypeError(f"{type(self).__name__} implements neither _learn_rows nor the streaming hooks")

    def _prepared(self) -> None:
        """Derive what is not stored, after learning and after loading; refuse what does not fit together."""

    def _score_rows(self, rows: Matrix) -> npt.NDArray[Any]:
        """Score encoded rows (n, width): (n,), each independent of the others."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it scores: implement _score_rows")

    def _contributions(self, rows: Matrix) -> npt.NDArray[Any] | None:
        """What each encoded column adds to the scores: (n, width); None where the method cannot say."""
        return None

    def _explained(self, rows: Matrix) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
        """Scores (n,) and contributions (n, width) together, where one follows from the other."""
        return self._score_rows(rows), self._contributions(rows)

    def _learn_fold(self, rows: Matrix, whole: Self) -> None:
        """Learn from all rows but a fold's, where that is quicker from what ``whole`` learned from all."""
        self._learn_rows(rows)

    def _left_out(self, rows: Matrix) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None] | None:
        """Scores (n,) and contributions (n, width) of the training rows, each left out; None: cross-fit.

        ``rows`` are all training rows in order; where the method streams, a block of them.
        """
        return None

    # ---------------------------------------------------------------- encoding

    @property
    def encoding(self) -> Encoding:
        """How the fitted model turns columns into numbers."""
        if self._made is None or self._made[0] is not self.encoding_:
            self._made = (self.encoding_, Encoding.from_json(self.encoding_))
        return self._made[1]

    def _restored(self) -> None:
        self._made = None
        self._prepared()

    def _ground(self) -> dict[str, Any]:
        return {"columns": self.encoding_}

    def _survey(self, source: Source, positions: Sequence[int] | Places) -> tuple[None, list[BadItem]]:
        fit: EncodingFit | None = None
        bad: list[BadItem] = []
        for block in blocks(source, positions, self.batch_size, "Looking"):
            bad += [entry for _, entry in block.bad]
            if block.rows is None:
                continue
            if fit is None:
                fit = EncodingFit(
                    block.rows.columns,
                    block.rows.named,
                    scaling=self.scaling,
                    missing=self.missing,
                    total=len(positions),
                    seed=self.seed,
                )
            bad += [bad_row(source, int(block.good[row]), why) for row, why in fit.absorb(block.rows).items()]
        if fit is not None:
            self.encoding_ = fit.finish().to_json()
        return None, bad

    # ---------------------------------------------------------------- scoring

    def _prepare(self, item: Item) -> Matrix:
        rows = as_rows(item)
        order = self.encoding.order(rows.columns, rows.named, item.reference.source)
        matrix, faults = self.encoding.apply(rows, order)
        if faults:
            raise BadItem(item.reference.item, faults[0], "fill it in, or fit with missing='impute'")
        return matrix

    def _infer(self, batch: Matrix) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None]:
        if not self.card.localises:
            return self._score_rows(batch), None
        scores, parts = self._explained(batch)
        return scores, None if parts is None else self.encoding.fold(parts)

    def _batches(
        self, source: Source, positions: Positions, *, label: str = ""
    ) -> Iterator[tuple[list[int], Matrix]]:
        bad: list[BadItem] = []
        for part in encoded(self.encoding, source, positions, self.batch_size, label):
            bad += [entry for _, entry in part.bad]
            if len(part.good):
                yield part.good.tolist(), part.matrix
        if bad:
            raise BadItems(bad)

    def _scored(
        self, source: Source, positions: Positions, *, maps: bool, label: str
    ) -> Iterator[ScoredBlock]:
        """Yield positions with scores and maps, block by block."""
        maps = maps and self.card.localises
        for part in encoded(self.encoding, source, positions, self.batch_size, label):
            scores, places = np.empty(0), None
            if len(part.good):
                raw, parts = self._explained(part.matrix) if maps else (self._score_rows(part.matrix), None)
                scores = np.asarray(raw, dtype=np.float64)
                places = None if parts is None else self.encoding.fold(parts)
            if not np.isfinite(scores).all():
                raise FloatingPointError(f"{self.card.name} made a score that is not finite")
            yield ScoredBlock(part.asked, part.good, scores, places, part.bad)

    def _score(
        self,
        source: Source,
        positions: Positions,
        *,
        maps: bool,
        own_size: bool = True,
        label: str = "Scoring",
    ) -> Iterator[tuple[int, Found | BadItem]]:
        for block in self._scored(source, positions, maps=maps, label=label):
            each: Sequence[Map | None] = [None] * len(block.good) if block.maps is None else list(block.maps)
            found = zip(block.good.tolist(), zip(block.scores.tolist(), each, strict=True), strict=True)
            if not block.bad:
                yield from found
                continue
            known: dict[int, Any] = dict(found) | dict(block.bad)
            yield from ((position, known[position]) for position in block.asked.tolist())

    def _all(self, source: Source) -> tuple[Scores, npt.NDArray[np.float64] | None]:
        found = held_out(self, source, range(len(source)))
        return found.scores, found.peaks

    def _detect(self, source: Source, maps: bool) -> Iterator[Detection]:
        """Records, judged many at a time."""
        step = _JUDGED if reads_blocks(source) else ONE_BY_ONE
        with blas_threads():
            found = self._score(source, range(len(source)), maps=maps, label="Detecting")
            for part in _grouped(found, step):
                yield from self._records(source, part)

    def _records(self, source: Source, part: list[tuple[int, Found | BadItem]]) -> Iterator[Detection]:
        references = [source.references[position] for position, _ in part]
        good = [place for place, (_, found) in enumerate(part) if not isinstance(found, BadItem)]
        verdicts = None
        if self.decision_ is not None and good:
            scores = np.array([found[0] for _, found in part if not isinstance(found, BadItem)])
            verdicts = self.decision_.judge(scores, [references[place].product for place in good])
        rank = 0
        for reference, (_, found) in zip(references, part, strict=True):
            about = (reference.item, reference.source, reference.index)
            if isinstance(found, BadItem):
                reason = f"{found.reason}; {found.remedy}" if found.remedy else found.reason
                yield Detection(*about, error=reason, product=reference.product)
                continue
            p_value = basis = anomalous = None
            if verdicts is not None:
                basis = verdicts.basis[rank]
                p_value = float(verdicts.p_value[rank]) if np.isfinite(verdicts.p_value[rank]) else None
                anomalous = bool(verdicts.anomalous[rank]) if verdicts.anomalous[rank] >= 0 else None
            rank += 1
            score, place = found
            yield Detection(
                *about,
                score=score,
                p_value=p_value,
                basis=basis,
                anomalous=anomalous,
                regions=() if place is None else self._regions(place),
                product=reference.product,
                map=place,
            )

    def _regions(self, found: Map) -> tuple[Region, ...]:
        """Columns that contribute more than those of normal rows do, the largest first."""
        if self.map_level_ is None:
            return ()
        above = np.flatnonzero(found > self.map_level_)
        ranked = above[np.argsort(-found[above], kind="stable")][:_SHOWN]
        columns = self.encoding.columns
        return tuple(Region("column", columns[place].name, float(found[place])) for place in ranked)

    # ---------------------------------------------------------------- fitting

    def _labels(self, source: Source, labels: npt.ArrayLike | None) -> npt.NDArray[np.int8]:
        if labels is None and reads_blocks(source):
            known: npt.NDArray[np.int8] = source.labels  # type: ignore[attr-defined]
            return known
        return super()._labels(source, labels)

    def _learnable(self, labels: npt.NDArray[np.int8]) -> Any:
        if self.card.supervision == "normal-only":
            return np.flatnonzero(labels != 1)
        return np.arange(len(labels))

    def _fit_and_hold_out(
        self,
        items: Any,
        labels: npt.ArrayLike | None,
        decision: Decision | None,
        checkpoint: str | os.PathLike[str] | None,
    ) -> dict[int, float]:
        """As the base does, in arrays."""
        source = open_source(items, self.card.modality)
        known = self._labels(source, labels)
        self._forget()
        with blas_threads():
            wanted = self._learnable(known)
            _, bad = self._survey(source, wanted)
            if bad and getattr(source, "on_bad", "raise") == "raise":
                raise BadItems(bad)
            if bad:
                refused = {entry.item for entry in bad}
                usable = [i for i in wanted if source.references[i].item not in refused]
                wanted = np.array(usable, dtype=np.intp)
            self._require_items(source, len(wanted))
            found = learn(self, source, wanted, checkpoint)
        self.fitted_ = True
        if found.peaks is not None and len(found.peaks):
            self.map_typical_ = float(np.median(found.peaks))
        labels_of = known[found.positions]
        products, groups = products_of(source, found.positions), groups_of(source, found.positions)
        self._decide(decision or Conformal(), found.scores, labels_of, products, groups, found.peaks)
        return dict(zip(found.positions.tolist(), found.scores.tolist(), strict=True))


def _grouped(found: Iterator[Any], step: int) -> Iterator[list[Any]]:
    part: list[Any] = []
    for entry in found:
        part.append(entry)
        if len(part) == step:
            yield part
            part = []
    if part:
        yield part
