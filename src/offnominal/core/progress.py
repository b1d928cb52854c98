"""Progress: a bar on a terminal, a plain line now and then elsewhere, silence when asked."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_silent: ContextVar[bool] = ContextVar("offnominal_silent", default=True)
PLAIN_SECONDS = 10.0


@contextlib.contextmanager
def shown(visible: bool = True) -> Iterator[None]:
    """Show progress within the block; the library is silent by default, the command line is not."""
    token = _silent.set(not visible)
    try:
        yield
    finally:
        _silent.reset(token)


def say(text: str) -> None:
    """Print a line to standard error, unless silent."""
    if not _silent.get():
        print(text, file=sys.stderr, flush=True)


def track(iterable: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
    """Iterate with progress.

    Parameters
    ----------
    iterable : iterable
        What to go through; yielded unchanged.
    total : int, optional
        How many there are; ``len(iterable)`` where it has one.
    label : str
        What is being done, a verb first ("Fitting").
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if _silent.get():
        yield from iterable
    elif sys.stderr.isatty():
        yield from _bar(iterable, total, label)
    else:
        yield from _lines(iterable, total, label)


def _bar(iterable: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        for entry in iterable:
            yield entry
            progress.advance(task)


def _lines(iterable: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    last = time.monotonic()
    of = f" of {total}" if total is not None else ""
    for done, entry in enumerate(iterable, start=1):
        yield entry
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            print(f"{label}: {done}{of}", file=sys.stderr, flush=True)
