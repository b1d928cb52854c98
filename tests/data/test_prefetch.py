"""Reading ahead keeps the order, yields bad items, and holds no more in memory than it was allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offnominal.core.errors import BadItem
from offnominal.core.source import Item, Reference
from offnominal.data import prefetch


class Slow:
    """A source of arrays of given sizes that counts what is in memory."""

    name, modality = "slow", "image"

    def __init__(self, sizes: Sequence[int], bad: Sequence[int] = (), pause: float = 0.0) -> None:
        self.references = [Reference(str(i), "slow") for i in range(len(sizes))]
        self.sizes, self.bad, self.pause = sizes, set(bad), pause
        self.started: list[int] = []
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, position: int) -> Item:
        with self.lock:
            self.started.append(position)
        time.sleep(self.pause * ((position * 7) % 3))
        if position in self.bad:
            raise BadItem(str(position), "is bad")
        return Item(self.references[position], np.zeros(self.sizes[position], np.uint8))

    def mask(self, position: int) -> None:
        return None

    def subset(self, positions: Sequence[int]) -> Slow:
        raise NotImplementedError


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 50), max_size=30),
    bad=st.sets(st.integers(0, 29)),
    workers=st.integers(1, 4),
    ahead=st.integers(1, 200),
)
def test_every_position_once_in_order(sizes: list[int], bad: set[int], workers: int, ahead: int) -> None:
    source = Slow(sizes, tuple(bad), pause=0.0001)
    order = list(range(len(sizes)))[::-1]
    found = list(prefetch(source, order, workers=workers, ahead=ahead))
    assert [position for position, _ in found] == order
    for position, entry in found:
        assert isinstance(entry, BadItem) == (position in bad)
        if isinstance(entry, Item):
            assert entry.value.nbytes == sizes[position]


def test_what_is_ahead_stays_within_the_bound() -> None:
    source = Slow([1000] * 40)
    for taken, _ in enumerate(prefetch(source, range(40), workers=3, ahead=2000), 1):
        time.sleep(0.002)
        if taken > 3:  # the size is known by then
            assert len(source.started) - taken <= 2


def test_other_errors_are_raised_and_leaving_early_stops_the_reading() -> None:
    class Broken(Slow):
        def read(self, position: int) -> Item:
            if position == 2:
                raise RuntimeError("a bug")
            return super().read(position)

    stream = prefetch(Broken([1] * 50), range(50), workers=2)
    assert next(stream)[0] == 0
    assert next(stream)[0] == 1
    with pytest.raises(RuntimeError, match="a bug"):
        next(stream)
    source = Slow([1] * 500)
    stream = prefetch(source, range(500), workers=2)
    next(stream)
    stream.close()
    count = len(source.started)
    assert count < 50
    time.sleep(0.02)
    assert len(source.started) == count
    with pytest.raises(ValueError, match="at least 1"):
        next(prefetch(source, [0], workers=0))


def test_reading_overlaps_with_the_consumer() -> None:
    source = Slow([1] * 8)
    stream = prefetch(source, range(8), workers=1)
    next(stream)
    next(stream)
    for _ in range(200):
        if len(source.started) > 2:
            return
        time.sleep(0.01)
    raise AssertionError("nothing was read ahead")
