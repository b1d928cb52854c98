"""From a source to scores and maps: items are read ahead, batched, inferred and handed out side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from offnominal.core.card import Card
from offnominal.core.errors import BadItem, BadItems
from offnominal.core.progress import track
from offnominal.core.source import Item, Reference, Source
from offnominal.data import prefetch

Scores = npt.NDArray[np.float64]
Map = npt.NDArray[np.float32]
Found = tuple[float, Map | None]
"""Score and map of one item."""

Positions = Sequence[int] | npt.NDArray[np.intp] | range


class Steps(Protocol):
    """What a detector does with items, step by step; `Detector` says what each promises."""

    card: ClassVar[Card]
    batch_size: ClassVar[int]

    def _prepare(self, item: Item) -> Any: ...
    def _collate(self, prepared: list[Any]) -> Any: ...
    def _infer(self, batch: Any) -> tuple[npt.NDArray[Any], Any]: ...
    def _assemble(
        self, batch: Any, scores: npt.NDArray[Any], maps: Any, *, own_size: bool
    ) -> tuple[Scores, Sequence[Map] | None]: ...


class Mapped:
    """A source whose items come with a function applied, so that it runs in the reader's threads.

    Parameters
    ----------
    source : Source
    function : callable
        Takes an `Item`, returns what takes the place of its value; may raise `BadItem`.
    """

    def __init__(self, source: Source, function: Callable[[Item], Any]) -> None:
        self.name = source.name
        self.modality = source.modality
        self._source = source
        self._function = function

    @property
    def references(self) -> Sequence[Reference]:
        """References of the source."""
        return self._source.references

    def __len__(self) -> int:
        return len(self._source)

    def read(self, position: int) -> Item:
        """Read an item and apply the function."""
        item = self._source.read(position)
        return Item(item.reference, self._function(item))

    def mask(self, position: int) -> npt.NDArray[np.bool_] | None:
        """Mask of an item, as the source has it."""
        return self._source.mask(position)

    def subset(self, positions: Sequence[int] | npt.NDArray[np.intp]) -> Mapped:
        """Restrict to the given positions."""
        return Mapped(self._source.subset(positions), self._function)


class Maps(Sequence[Map]):
    """Anomaly maps of a source, each made when it is asked for.

    Parameters
    ----------
    source : Source
    score : callable
        Takes a source and yields the position of each item with its score and map, or what is wrong with it.
    """

    def __init__(
        self, source: Source, score: Callable[[Source], Iterator[tuple[int, Found | BadItem]]]
    ) -> None:
        self._source = source
        self._score = score

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Maps(self._source.subset(range(*index.indices(len(self)))), self._score)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return next(iter(Maps(self._source.subset([index % len(self)]), self._score)))

    def __iter__(self) -> Iterator[Map]:
        for _, found in self._score(self._source):
            if isinstance(found, BadItem):
                raise BadItems([found])
            assert found[1] is not None
            yield found[1]


def batches(
    steps: Steps, source: Source, positions: Positions, label: str
) -> Iterator[tuple[list[int], Any]]:
    """Yield positions and batches of good items; at the end one `BadItems` for all bad ones."""
    bad: list[BadItem] = []
    for read in _read(steps, source, positions, label):
        bad += [value for _, value in read if isinstance(value, BadItem)]
        good = [(position, value) for position, value in read if not isinstance(value, BadItem)]
        if good:
            yield [position for position, _ in good], steps._collate([value for _, value in good])
    if bad:
        raise BadItems(bad)


def scored(
    steps: Steps, source: Source, positions: Positions, *, maps: bool, own_size: bool, label: str
) -> Iterator[tuple[int, Found | BadItem]]:
    """Yield every position in order with its score and map, or what is wrong with it.

    A batch is inferred while the one before it is assembled and handed out.
    """
    waiting: deque[tuple[list[tuple[int, Any]], Future[Any] | None]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="offnominal-infer")

    def infer(values: list[Any]) -> tuple[Any, npt.NDArray[Any], Any]:
        batch = steps._collate(values)
        return batch, *steps._infer(batch)

    def finish() -> Iterator[tuple[int, Found | BadItem]]:
        read, inferred = waiting.popleft()
        results = iter(() if inferred is None else _found(steps, inferred.result(), maps, own_size))
        for position, value in read:
            yield position, value if isinstance(value, BadItem) else next(results)

    try:
        for read in _read(steps, source, positions, label):
            values = [value for _, value in read if not isinstance(value, BadItem)]
            waiting.append((read, pool.submit(infer, values) if values else None))
            if len(waiting) > 1:
                yield from finish()
        while waiting:
            yield from finish()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(
    steps: Steps, source: Source, positions: Positions, label: str
) -> Iterator[list[tuple[int, Any | BadItem]]]:
    """Yield batches of positions with prepared items, or what is wrong with them."""
    read: list[tuple[int, Any]] = []
    for position, item in track(
        prefetch(Mapped(source, steps._prepare), positions), total=len(positions), label=label
    ):
        read.append((int(position), item if isinstance(item, BadItem) else item.value))
        if len(read) == steps.batch_size:
            yield read
            read = []
    if read:
        yield read


def _found(
    steps: Steps, inferred: tuple[Any, npt.NDArray[Any], Any], maps: bool, own_size: bool
) -> list[Found]:
    """One score and map for each item of a batch."""
    batch, raw, places = inferred
    scores, found = steps._assemble(batch, raw, places if maps else None, own_size=own_size)
    if not np.isfinite(scores).all():
        raise FloatingPointError(f"{steps.card.name} made a score that is not finite")
    each = [None] * len(scores) if found is None else found
    return [(float(score), place) for score, place in zip(scores, each, strict=True)]
