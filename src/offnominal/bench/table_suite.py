"""The table suite: every vector detector on every set of ADBench that is there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from offnominal.bench.layouts import adbench
from offnominal.bench.runner import Record, Run
from offnominal.bench.worker import Worker
from offnominal.core.card import catalogue
from offnominal.core.errors import BadSource


def table_detectors() -> list[str]:
    """Names of the vector detectors in the catalogue."""
    return sorted(
        entry.name for entry in catalogue() if entry.modality == "table" and entry.kind == "detector"
    )


def chosen_tables(data: str | Path, sets: Sequence[str] | None) -> list[str]:
    """Sets asked for, each ``layout``, ``layout/set`` or the set's own name; all where none is named.

    Raises
    ------
    BadSource
        There is none, or one that is not there was named.
    """
    there = adbench.find(data)
    if not there:
        raise BadSource(f"{data}: no folder of ADBench's npz files; it is called {_folders()}")
    chosen: list[str] = []
    for asked in there if sets is None else sets:
        matching = [name for name in there if asked in (name, *name.split("/"))]
        if not matching:
            raise BadSource(f"no table {asked!r} under {data}; there are: {', '.join(there)}")
        chosen += matching
    return list(dict.fromkeys(chosen))


def _folders() -> str:
    return " or ".join(names[0] for names in adbench.FOLDERS.values())


def table_runs(
    names: Sequence[str], sets: Sequence[str], seeds: Sequence[int], limit: int | None
) -> list[Run]:
    """One run for every set, seed and detector, those on one split after one another."""
    return [
        Run(entry, seed, name, name, {"seed": seed}, limit)
        for entry in sets
        for seed in seeds
        for name in names
    ]


def in_worker(data: str | Path, worker: Worker) -> Callable[[Run, Path], Record]:
    """A way to do a run: `offnominal.bench.table_one` in a worker process."""
    root = str(Path(data).resolve())

    def execute(run: Run, place: Path) -> Record:
        task = {
            "data": root,
            "set": run.set,
            "seed": run.seed,
            "limit": run.limit,
            "detector": run.detector,
            "parameters": dict(run.parameters),
            "rate": run.rate,
            "out": str(place.resolve()),
        }
        return worker.ask(task)

    return execute


def own_worker(timeout: float) -> Worker:
    """A process that does runs of our detectors."""
    return Worker([sys.executable, "-m", "offnominal.bench.table_one"], timeout)
