"""Read ahead in threads, in order, within a bound of memory."""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem
from offnominal.core.source import Item, Source
from offnominal.core.threads import budget


def prefetch(
    source: Source,
    positions: Sequence[int] | npt.NDArray[np.intp],
    *,
    workers: int | None = None,
    ahead: int = 256 << 20,
) -> Iterator[tuple[int, Item | BadItem]]:
    """Read items in threads and yield them in the order asked for.

    Parameters
    ----------
    source : Source
    positions : sequence of int
        What to read.
    workers : int, optional
        Threads, default the thread budget.
    ahead : int, default 256 MiB
        Bytes of items read but not yet taken, at most; one item may be larger. What is being read counts as
        the largest item met so far, and no more than two items a thread are ahead of the consumer.

    Yields
    ------
    (position, Item or BadItem)
        A `BadItem` is yielded, not raised; any other error is raised in its turn.
    """
    threads = budget() if workers is None else workers
    if threads < 1:
        raise ValueError(f"workers must be at least 1, got {threads}")
    waiting: deque[tuple[int, Future[tuple[Item | BadItem, int]]]] = deque()
    rest = iter([int(position) for position in positions])
    largest = 0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="offnominal-read")
    try:
        while True:
            while _room(waiting, threads, ahead, largest) and (position := next(rest, None)) is not None:
                waiting.append((position, pool.submit(_read, source, position)))
            if not waiting:
                return
            position, future = waiting.popleft()
            found, size = future.result()
            del future
            largest = max(largest, size)
            yield position, found
            del found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _room(
    waiting: deque[tuple[int, Future[tuple[Item | BadItem, int]]]], threads: int, ahead: int, largest: int
) -> bool:
    if not waiting:
        return True
    if not largest:  # nothing is known of the sizes yet
        return len(waiting) < threads
    held = 0
    for _, future in waiting:
        ready = future.done() and not future.cancelled() and future.exception() is None
        held += future.result()[1] if ready else largest
    return len(waiting) < 2 * threads + 2 and held + largest <= ahead


def _read(source: Source, position: int) -> tuple[Item | BadItem, int]:
    try:
        item = source.read(position)
    except BadItem as bad:
        return bad, 0
    return item, _weight(item.value)


def _weight(value: Any) -> int:
    """Bytes a value holds, near enough: arrays, and arrays in lists and records."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, list | tuple):
        return sum(map(_weight, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(_weight(getattr(value, field.name)) for field in dataclasses.fields(value))
    return sys.getsizeof(value)
