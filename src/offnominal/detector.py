"""The contract: what every detector promises, and all that is common to them.

Public methods are final. A method implements `_infer` and either `_fit`, or, where it can learn in pieces,
`_begin`, `_absorb`, `_merge` and `_finish`; a modality's base class says how items become batches.
"""

from __future__ import annotations

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np
import numpy.typing as npt

from offnominal import persistence, pipeline
from offnominal.core.card import Card
from offnominal.core.detections import Detection, Region
from offnominal.core.errors import (
    BadItem,
    BadItems,
    BadSource,
    NoDecisionError,
    NotFittedError,
)
from offnominal.core.source import Item, Reference, Source
from offnominal.core.threads import blas_threads
from offnominal.data import open_source, prefetch
from offnominal.decide import Conformal, Decision
from offnominal.detections import Detections
from offnominal.learning import learn
from offnominal.pipeline import Found, Map, Mapped, Maps, Scores


class Detector(ABC):
    """Base of every detector.

    Attributes
    ----------
    card : Card
        What the method is (class attribute, set by ``@card``).
    decision_ : Decision or None
        What turns scores into p-values and verdicts; `calibrate` replaces it.
    """

    card: ClassVar[Card]
    batch_size: ClassVar[int] = 16
    n_folds: ClassVar[int] = 5
    held_out_share: ClassVar[float] = 0.2
    least_items: ClassVar[int] = 1
    """Items without which the method has nothing to go by."""

    seed: int = 0
    decision_: Decision | None = None
    fitted_: bool = False
    map_level_: float | None = None
    map_typical_: float | None = None
    share: float = 1.0
    """Part of a memory budget this object may use: below 1 while several learn side by side."""
    _checkpoint: Path | None = None
    """Folder where a method that trains may keep its progress."""

    # ---------------------------------------------------------------- parameters

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    @final
    def get_params(self) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    @final
    def set_params(self, **parameters: Any) -> Self:
        """Set constructor arguments by name; what was learned stays until the next `fit`.

        Raises
        ------
        ValueError
            A name the constructor does not have.
        """
        known = self._parameter_names()
        for name, value in parameters.items():
            if name not in known:
                raise ValueError(f"{self.card.name} has no parameter {name!r}; it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    @final
    def clone(self) -> Self:
        """Return an unfitted detector with the same parameters."""
        return type(self)(**self.get_params())

    def __repr__(self) -> str:
        words = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({words})"

    # ---------------------------------------------------------------- what a method implements

    @abstractmethod
    def _infer(self, batch: Any) -> tuple[npt.NDArray[Any], Any]:
        """Score a batch: scores, and maps or None, in the form the modality's `_assemble` takes."""

    def _fit(self, source: Source, labels: npt.NDArray[np.int8]) -> None:
        """Learn from a source in one go (methods that do not stream)."""
        raise TypeError(f"{type(self).__name__} implements neither _fit nor the streaming hooks")

    def _begin(self) -> None:
        """Start an empty learning state."""

    def _absorb(self, batch: Any) -> None:
        """Add a batch to the learning state."""

    def _merge(self, other: Self) -> None:
        """Add another's learning state to this one's."""

    def _finish(self) -> None:
        """Turn the learning state into what `_infer` needs; the state may be dropped."""

    def _resume(self) -> None:
        """Make a learning state again out of what was learned."""

    def _compact(self) -> None:
        """Shrink the learning state to what a merge needs; nothing where it is small already."""

    def _ground(self) -> dict[str, Any]:
        """Return what two learning states must agree in to be merged, by name."""
        return {}

    def _pause(self) -> dict[str, npt.NDArray[Any]]:
        """Return the learning state as arrays, so that a killed fit can go on."""
        return {}

    def _unpause(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Take up a learning state that `_pause` returned."""

    def _environment(self) -> dict[str, Any]:
        """Return what scores depend on besides the model: runtime, precision, hash of weights."""
        return {}

    def _restored(self) -> None:
        """Rebuild what is not stored, after loading."""

    # ---------------------------------------------------------------- what a modality implements

    def _survey(
        self, source: Source, positions: Sequence[int]
    ) -> tuple[npt.NDArray[np.intp] | None, list[BadItem]]:
        """Look at the training items once before learning.

        Returns
        -------
        groups : ndarray (n,) or None
            Items that must stay together in a split, for the *good* items in order; None: each on its own.
        bad : list of BadItem
            Items that cannot be used, in order.
        """
        bad = [found for _, found in prefetch(source, positions) if isinstance(found, BadItem)]
        return None, bad

    def _prepare(self, item: Item) -> Any:
        """Turn an item into what batches are made of (runs in reader threads)."""
        return item.value

    def _collate(self, prepared: list[Any]) -> Any:
        """Put prepared items into a batch."""
        return np.stack(prepared)

    def _assemble(
        self, batch: Any, scores: npt.NDArray[Any], maps: Any, *, own_size: bool
    ) -> tuple[Scores, Sequence[Map] | None]:
        """Turn what `_infer` returned into one score and one map an item."""
        return np.asarray(scores, dtype=np.float64), maps

    def _regions(self, found: Map) -> tuple[Region, ...]:
        """Find the places of a map that stand out."""
        return ()

    # ---------------------------------------------------------------- fitting

    @final
    def fit(
        self,
        items: Any,
        labels: npt.ArrayLike | None = None,
        *,
        decision: Decision | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Learn what is normal, and calibrate on scores of items the model has not seen.

        Parameters
        ----------
        items : source
            What the modality accepts: a folder, a glob, a list, an array, a manifest, a `Source` …
        labels : array-like (n,), optional
            0 normal, 1 anomalous, -1 unknown; default: what the source says. A method that learns from
            normal items leaves those labelled 1 out.
        decision : Decision, optional
            Unfitted decision, default ``Conformal(false_alarm_rate=0.01)``.
        checkpoint : path, optional
            Folder where progress is kept: a fit that was killed goes on there. Emptied when done.

        Raises
        ------
        BadItems
            Items that cannot be used, every one of them (a source with ``on_bad="skip"`` passes over them).
        BadSource
            Nothing to learn from.
        """
        self._fit_and_hold_out(items, labels, decision, checkpoint)
        return self

    @final
    def fit_score(self, items: Any, labels: npt.ArrayLike | None = None) -> Scores:
        """Fit, and score the same items, each by a model that has not seen it.

        Returns
        -------
        ndarray (n,)
            Scores; those of methods that train hold a part out and score the rest in sample.
        """
        source = open_source(items, self.card.modality)
        held_out = self._fit_and_hold_out(source, labels, None, None)
        rest = [position for position in range(len(source)) if position not in held_out]
        if rest:
            scored = dict(zip(rest, self.anomaly_score(source.subset(rest)), strict=True))
            held_out = {**held_out, **scored}
        return np.array([held_out[position] for position in range(len(source))])

    def _fit_and_hold_out(
        self,
        items: Any,
        labels: npt.ArrayLike | None,
        decision: Decision | None,
        checkpoint: str | os.PathLike[str] | None,
    ) -> dict[int, float]:
        source = open_source(items, self.card.modality)
        known = self._labels(source, labels)
        self._forget()
        with blas_threads():
            wanted = self._learnable(known)
            groups, bad = self._survey(source, wanted)
            if bad and getattr(source, "on_bad", "raise") == "raise":
                raise BadItems(bad)
            refused = {entry.item for entry in bad}
            positions = [i for i in wanted if source.references[i].item not in refused]
            self._require_items(source, len(positions))
            held_out, peaks = learn(self, source, positions, known, groups, checkpoint)
        self.fitted_ = True
        rank = sorted(held_out)
        if peaks:
            levels = np.array([peaks[position] for position in sorted(peaks)])
            self.map_typical_ = float(np.median(levels))
        self._decide(
            decision or Conformal(),
            np.array([held_out[position] for position in rank]),
            known[rank],
            [source.references[position].product for position in rank],
            [source.references[position].group for position in rank],
            np.array([peaks[position] for position in rank]) if peaks else None,
        )
        return held_out

    def _learnable(self, labels: npt.NDArray[np.int8]) -> list[int]:
        """Positions of the items the method may learn from."""
        return [i for i, label in enumerate(labels) if label != 1 or self.card.supervision != "normal-only"]

    def _require_items(self, source: Source, count: int) -> None:
        if not count:
            raise BadSource(f"{source.name}: no usable item to learn from")
        if count < self.least_items:
            raise BadSource(
                f"{source.name}: {count} usable item to learn from, {self.card.name} needs at least "
                f"{self.least_items}; give it more, or choose a detector for few-shot use"
            )

    def _labels(self, source: Source, labels: npt.ArrayLike | None) -> npt.NDArray[np.int8]:
        if labels is None:
            return np.array([reference.label for reference in source.references], dtype=np.int8)
        given = np.asarray(labels)
        if given.shape != (len(source),):
            raise ValueError(f"labels have shape {given.shape}, the source has {len(source)} items")
        if not np.isin(given, (-1, 0, 1)).all():
            raise ValueError("labels must be 0 (normal), 1 (anomalous) or -1 (unknown)")
        return given.astype(np.int8)

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _worker(self, share: float) -> Self:
        """Return a clone that knows what the survey learned."""
        worker = self.clone()
        for name, value in vars(self).items():
            if name.endswith("_") and not name.startswith("_"):
                setattr(worker, name, value)
        worker.share = share
        return worker

    def _decide(
        self,
        decision: Decision,
        scores: Scores,
        labels: npt.NDArray[np.int8],
        products: list[str | None],
        groups: list[str | None],
        peaks: npt.NDArray[np.float64] | None,
    ) -> None:
        self.decision_ = decision.fit(scores, labels, products, groups) if len(scores) else None
        if peaks is not None and len(peaks):
            normal = peaks[labels != 1] if (labels != 1).any() else peaks
            rate = float(getattr(decision, "false_alarm_rate", 0.01))
            self.map_level_ = float(np.quantile(normal, 1 - rate, method="higher"))

    @final
    def partial_fit(self, items: Any) -> Self:
        """Teach the model further normal items; the decision goes until `calibrate` is called.

        Raises
        ------
        TypeError
            The method does not learn in pieces (its card says ``streams=False``).
        """
        self._require_streams("partial_fit")
        source = open_source(items, self.card.modality)
        wanted = self._learnable(self._labels(source, None))
        with blas_threads():
            if self.fitted_:
                prepared = prefetch(Mapped(source, self._prepare), wanted)
                bad = [found for _, found in prepared if isinstance(found, BadItem)]
            else:
                self._forget()
                _, bad = self._survey(source, wanted)
            if bad and getattr(source, "on_bad", "raise") == "raise":
                raise BadItems(bad)
            refused = {entry.item for entry in bad}
            good = [i for i in wanted if source.references[i].item not in refused]
            if self.fitted_:
                if not good:
                    raise BadSource(f"{source.name}: no usable item to learn from")
                self._resume()
            else:
                self._require_items(source, len(good))
                self._begin()
            try:
                for _, batch in self._batches(source, good, label="Learning"):
                    self._absorb(batch)
            except BaseException:
                if self.fitted_:  # half-learned is worse than not: back to what was known
                    self._restored()
                raise
            self._finish()
        self.fitted_ = True
        self.decision_ = None
        return self

    @final
    def merge(self, other: Self) -> Self:
        """Take in what another fitted detector of the same parameters has learned; the decision goes.

        Raises
        ------
        TypeError
            The method does not learn in pieces.
        ValueError
            ``other`` is of another kind or has other parameters.
        """
        self._require_streams("merge")
        if type(other) is not type(self) or other.get_params() != self.get_params():
            raise ValueError(f"{self!r} and {other!r} cannot be merged: kind or parameters differ")
        self._require_fitted()
        other._require_fitted()
        for name, value in self._ground().items():
            if other._ground()[name] != value:
                raise ValueError(
                    f"the two were fitted on different {name}: {value} and {other._ground()[name]}; "
                    "fit both with items of one kind, or teach one with partial_fit"
                )
        with blas_threads():
            self._resume()
            partner = other._worker(1.0)
            partner._resume()
            self._merge(partner)
            self._finish()
        self.decision_ = None
        return self

    def _require_streams(self, verb: str) -> None:
        if not self.card.streams:
            raise TypeError(
                f"{self.card.name} does not learn in pieces: {verb} needs a card with streams=True"
            )

    @final
    def calibrate(
        self, items: Any, labels: npt.ArrayLike | None = None, decision: Decision | None = None
    ) -> Self:
        """Replace the decision, never the model.

        Parameters
        ----------
        items : source
            Items the model was *not* fitted on.
        labels : array-like (n,), optional
            As in `fit`; a decision that rests on normal items leaves those labelled 1 out.
        decision : Decision, optional
            Unfitted decision, default ``Conformal(false_alarm_rate=0.01)``.
        """
        self._require_fitted()
        source = open_source(items, self.card.modality)
        known = self._labels(source, labels)
        with blas_threads():
            scores, peaks = self._all(source)
        products = [reference.product for reference in source.references]
        groups = [reference.group for reference in source.references]
        self._decide(decision or Conformal(), scores, known, products, groups, peaks)
        return self

    def _all(self, source: Source) -> tuple[Scores, npt.NDArray[np.float64] | None]:
        scores = np.empty(len(source))
        peaks = np.empty(len(source))
        mapped = False
        bad: list[BadItem] = []
        for position, found in self._score(source, range(len(source)), maps=True, own_size=False):
            if isinstance(found, BadItem):
                bad.append(found)
                continue
            scores[position] = found[0]
            if found[1] is not None:
                peaks[position] = float(found[1].max())
                mapped = True
        if bad:
            raise BadItems(bad)
        return scores, peaks if mapped else None

    # ---------------------------------------------------------------- scoring

    def _require_fitted(self) -> None:
        if not self.fitted_ and "zero-shot" not in self.card.setting:
            raise NotFittedError(f"{self.card.name} is not fitted; call fit with normal items first")

    def _batches(
        self, source: Source, positions: Sequence[int] | npt.NDArray[np.intp], *, label: str = ""
    ) -> Iterator[tuple[list[int], Any]]:
        """Yield positions and batches of good items; at the end one `BadItems` for all bad ones."""
        return pipeline.batches(self, source, positions, label)

    def _score(
        self,
        source: Source,
        positions: Sequence[int] | npt.NDArray[np.intp] | range,
        *,
        maps: bool,
        own_size: bool = True,
        label: str = "Scoring",
    ) -> Iterator[tuple[int, Found | BadItem]]:
        """Yield every position in order with its score and map, or what is wrong with it."""
        return pipeline.scored(self, source, positions, maps=maps, own_size=own_size, label=label)

    @final
    def anomaly_score(self, items: Any) -> Scores:
        """Score items.

        Returns
        -------
        ndarray (n,) of float64
            Higher is more anomalous; always finite.

        Raises
        ------
        BadItems
            Items that cannot be used, every one of them; `detect` goes on instead.
        """
        self._require_fitted()
        source = open_source(items, self.card.modality)
        scores = np.empty(len(source))
        bad: list[BadItem] = []
        with blas_threads():
            for position, found in self._score(source, range(len(source)), maps=False):
                if isinstance(found, BadItem):
                    bad.append(found)
                else:
                    scores[position] = found[0]
        if bad:
            raise BadItems(bad)
        return scores

    @final
    def anomaly_map(self, items: Any) -> Sequence[Map]:
        """Return maps, each made when asked for: float32, at the item's own size.

        Raises
        ------
        TypeError
            The method does not localise (its card says ``localises=False``).
        """
        if not self.card.localises:
            raise TypeError(f"{self.card.name} gives a score and no map (localises=False)")
        self._require_fitted()
        source = open_source(items, self.card.modality)
        return Maps(source, lambda part: self._score(part, range(len(part)), maps=True))

    @final
    def predict(self, items: Any) -> npt.NDArray[np.int8]:
        """Return verdicts (n,): 1 anomalous, 0 normal.

        Raises
        ------
        NoDecisionError
            There is no decision, or it cannot give a verdict at the rate asked for.
        """
        self._require_fitted()
        source = open_source(items, self.card.modality)
        if self.decision_ is None:
            raise NoDecisionError(f"{self.card.name} has no decision; call calibrate with normal items")
        verdicts = self.decision_.judge(
            self.anomaly_score(source), [reference.product for reference in source.references]
        )
        if (verdicts.anomalous < 0).any():
            raise NoDecisionError(verdicts.note or "the decision gives no verdict; calibrate with more items")
        return verdicts.anomalous

    @final
    def detect(self, items: Any, *, maps: bool = True) -> Detections:
        """Go through items once and yield a record for each; a bad item has its error and the run goes on.

        Parameters
        ----------
        items : source
        maps : bool, default True
            Whether records carry maps and regions, where the method localises.
        """
        self._require_fitted()
        source = open_source(items, self.card.modality)
        return Detections(self._detect(source, maps and self.card.localises))

    def _detect(self, source: Source, maps: bool) -> Iterator[Detection]:
        with blas_threads():
            for position, found in self._score(source, range(len(source)), maps=maps, label="Detecting"):
                reference = source.references[position]
                if isinstance(found, BadItem):
                    reason = f"{found.reason}; {found.remedy}" if found.remedy else found.reason
                    yield Detection(
                        reference.item,
                        reference.source,
                        reference.index,
                        error=reason,
                        product=reference.product,
                    )
                    continue
                yield self._record(reference, *found)

    def _record(self, reference: Reference, score: float, place: Map | None) -> Detection:
        p_value = basis = anomalous = None
        if self.decision_ is not None:
            verdicts = self.decision_.judge(np.array([score]), [reference.product])
            basis = verdicts.basis[0]
            if np.isfinite(verdicts.p_value[0]):
                p_value = float(verdicts.p_value[0])
            if verdicts.anomalous[0] >= 0:
                anomalous = bool(verdicts.anomalous[0])
        return Detection(
            item=reference.item,
            source=reference.source,
            index=reference.index,
            score=score,
            p_value=p_value,
            basis=basis,
            anomalous=anomalous,
            regions=() if place is None else self._regions(place),
            product=reference.product,
            map=place,
        )

    # ---------------------------------------------------------------- persistence

    @final
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model to a folder (JSON and safetensors), atomically.

        Raises
        ------
        NotFittedError
            There is nothing to save.
        NotSavable
            Something learned is neither an array nor JSON.
        FileExistsError
            ``folder`` holds something other than a model.
        """
        if not self.fitted_:
            raise NotFittedError(f"{self.card.name} is not fitted; there is nothing to save")
        persistence.save(self, folder)
