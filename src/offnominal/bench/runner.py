"""Runs of a suite: every set, detector and seed, each in its own process, each kept when it is done."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offnominal.bench import layouts
from offnominal.bench.tables import write_image_tables
from offnominal.core.card import catalogue, find
from offnominal.core.errors import BadSource
from offnominal.core.progress import say

RESULTS = "results.jsonl"
RATE = 0.01
DEFAULT_CATEGORIES = {"cifar10": ("airplane", "automobile", "bird")}
"""Layouts of which only some categories are run unless ``sets`` says otherwise."""

Record = dict[str, Any]


class RunsFailedError(RuntimeError):
    """Some runs of a suite failed; the others are done and kept."""


@dataclass(frozen=True)
class Run:
    """One run: what is fitted on what.

    Attributes
    ----------
    set : str
        A data set, as `layouts.find` lists it.
    seed : int
        Of the split and of the detector.
    label : str
        What tables call the detector.
    detector : str
        Name in the catalogue.
    parameters : mapping
        Constructor arguments, JSON.
    limit : int or None
        Images a part at most.
    rate : float
        False-alarm rate asked for.
    """

    set: str
    seed: int
    label: str
    detector: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    rate: float = RATE

    def identity(self) -> dict[str, Any]:
        """What makes this run this run, as JSON."""
        return {**vars(self), "parameters": dict(self.parameters)}

    @property
    def key(self) -> str:
        """Name of the run's files and line: readable, and different where anything differs."""
        digest = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
        return f"{re.sub('[^A-Za-z0-9_-]+', '_', f'{self.label}-{self.set}-{self.seed}')}-{digest[:8]}"


def read_results(out: str | os.PathLike[str]) -> list[Record]:
    """Finished runs of a folder, the latest line of each; a line cut off by a kill is passed over."""
    path = Path(out) / RESULTS
    found: dict[str, Record] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                found[record["key"]] = record
            except (json.JSONDecodeError, KeyError, TypeError):
                continue
    return list(found.values())


def add_result(out: Path, record: Mapping[str, Any]) -> None:
    """Append a record to the folder's results, flushed to disk."""
    line = json.dumps(_without_nan(record), ensure_ascii=False, allow_nan=False)
    path = out / RESULTS
    # after a kill the last line may lack its end
    cut = path.is_file() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut else "") + line + "\n")
        file.flush()
        os.fsync(file.fileno())


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_nan(entry) for key, entry in value.items()}
    return value


def scores_path(out: str | os.PathLike[str], key: str) -> Path:
    """Where a run's scores lie."""
    return Path(out) / "runs" / f"{key}.npz"


def carry_out(
    runs: Iterable[Run],
    out: str | os.PathLike[str],
    execute: Callable[[Run, Path], Record],
) -> list[Record]:
    """Do the runs that are not done yet.

    Parameters
    ----------
    runs : iterable of Run
    out : path
        Folder of the results.
    execute : callable
        Does a run, writing its scores to the path given, and returns its record.

    Returns
    -------
    list of dict
        Records of all the runs, in order.

    Raises
    ------
    RunsFailedError
        After all others are done, where some failed.
    """
    folder = Path(out)
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    wanted = list(runs)
    done = {record["key"]: record for record in read_results(folder)}
    failed: list[str] = []
    for number, run in enumerate(wanted, start=1):
        place = scores_path(folder, run.key)
        if run.key in done and place.is_file():
            continue
        began = time.perf_counter()
        try:
            record = {"key": run.key, **run.identity(), **execute(run, place)}
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            failed.append(f"{run.label} on {run.set}, seed {run.seed}: {error}")
            say(f"{number} of {len(wanted)} failed: {failed[-1]}")
            continue
        record["wall_s"] = time.perf_counter() - began
        add_result(folder, record)
        done[run.key] = record
        say(f"{number} of {len(wanted)}: {run.label} on {run.set}, seed {run.seed}, {record['wall_s']:.0f} s")
    if failed:
        raise RunsFailedError(f"{len(failed)} of {len(wanted)} runs failed:\n" + "\n".join(failed))
    return [done[run.key] for run in wanted]


def in_process(data: str | os.PathLike[str], timeout: float) -> Callable[[Run, Path], Record]:
    """A way to do a run: `offnominal.bench.one` in a fresh process."""
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
        return run_script([sys.executable, "-m", "offnominal.bench.one"], task, timeout)

    return execute


def run_script(command: Sequence[str], task: Mapping[str, Any], timeout: float) -> Record:
    """Run a command with a task file as its last argument; returns its last line of JSON.

    Raises
    ------
    RuntimeError
        It failed; the message is the last of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.json"
        path.write_text(json.dumps(task), encoding="utf-8")
        try:
            done = subprocess.run(
                [*command, str(path)], capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"took longer than {timeout:.0f} s") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(said[-1])
    try:
        record: Record = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError) as error:
        raise RuntimeError("ended without a record") from error
    return record


def default_sets(data: str | os.PathLike[str]) -> list[str]:
    """Sets under a folder that a suite runs: all, but of layouts with many categories of one kind a few."""
    kept = []
    for name in layouts.find(Path(data)):
        layout, _, category = name.partition("/")
        if category in DEFAULT_CATEGORIES.get(layout, (category,)):
            kept.append(name)
    return kept


def chosen_sets(data: str | os.PathLike[str], sets: Sequence[str] | None) -> list[str]:
    """Sets asked for, each ``layout`` or ``layout/category``; all of the default ones where none is named.

    Raises
    ------
    BadSource
        There is none, or one that is not there was named.
    """
    if sets is None:
        if not (found := default_sets(data)):
            raise BadSource(f"{data}: no data set with a known layout; there are layouts for {_layouts()}")
        return found
    there = layouts.find(Path(data))
    chosen: list[str] = []
    for name in sets:
        matching = [entry for entry in there if entry == name]
        matching = matching or [entry for entry in default_sets(data) if entry.split("/")[0] == name]
        if not matching:
            raise BadSource(f"no data set {name!r} under {data}; there are: {', '.join(there) or 'none'}")
        chosen += matching
    return list(dict.fromkeys(chosen))


def _layouts() -> str:
    return ", ".join(layouts.MODULES)


def image_detectors() -> list[str]:
    """Names of the image detectors in the catalogue, the default first."""
    names = [entry.name for entry in catalogue() if entry.modality == "image" and entry.kind == "detector"]
    return sorted(names, key=lambda name: (name != "patchcore", name))


def run_suite(
    suite: str,
    data: str | os.PathLike[str],
    detectors: Sequence[str] | None = None,
    out: str | os.PathLike[str] = "results",
    *,
    seeds: Sequence[int] = (0, 1, 2),
    sets: Sequence[str] | None = None,
    limit: int | None = None,
    timeout: float = 3600.0,
) -> list[Record]:
    """Run a suite; what is done already is not done again.

    For every set under ``data``, detector and seed: fit on the training part, score the test part. Results
    are kept in ``out``: one line a run in ``results.jsonl``, scores in ``runs/``, tables in ``image.csv``
    and ``image.md``, or ``table.csv`` and ``table.md``. Detectors run with their default parameters and the
    run's seed.

    Parameters
    ----------
    suite : {"image", "table"}
    data : path
        Folder of the data sets' own folders; see `offnominal.bench.layouts`.
    detectors : sequence of str, optional
        Names in the catalogue; default all of the suite's modality.
    out : path, default "results"
        Folder of the results; it may hold those of earlier calls.
    seeds : sequence of int, default (0, 1, 2)
    sets : sequence of str, optional
        Sets to run, ``layout`` or ``layout/category``; default all, three categories of CIFAR-10.
    limit : int, optional
        Images or rows a part at most, for a quick look.
    timeout : float, default 3600
        Seconds a run may take.

    Returns
    -------
    list of dict
        One record a run, in order.

    Raises
    ------
    ValueError
        There is no such suite.
    UnknownName
        There is no such detector.
    BadSource
        There is no such set.
    RunsFailedError
        After all others are done, where some runs failed.
    """
    if suite == "table":
        return _run_tables(data, detectors, out, seeds=seeds, sets=sets, limit=limit, timeout=timeout)
    if suite != "image":
        raise ValueError(f"there is no suite {suite!r}; there are image and table")
    names = list(detectors) if detectors is not None else image_detectors()
    for name in names:
        find(name, "image")
    runs = [
        Run(entry, seed, name, name, {"seed": seed}, limit)
        for entry in chosen_sets(data, sets)
        for seed in seeds
        for name in names
    ]
    try:
        return carry_out(runs, out, in_process(data, timeout))
    finally:
        if records := read_results(out):
            write_image_tables(records, out)


def _run_tables(
    data: str | os.PathLike[str],
    detectors: Sequence[str] | None,
    out: str | os.PathLike[str],
    *,
    seeds: Sequence[int],
    sets: Sequence[str] | None,
    limit: int | None,
    timeout: float,
) -> list[Record]:
    from offnominal.bench import table_pages, table_suite

    names = list(detectors) if detectors is not None else table_suite.table_detectors()
    for name in names:
        find(name, "table")
    chosen = table_suite.chosen_tables(Path(data), sets)
    with table_suite.own_worker(timeout) as worker:
        try:
            return carry_out(
                table_suite.table_runs(names, chosen, seeds, limit),
                out,
                table_suite.in_worker(Path(data), worker),
            )
        finally:
            if records := read_results(out):
                table_pages.write_table_pages(records, out)
