"""The folder a detection writes: records as they come, maps, and what is needed to go on after a kill.

``run.json`` says which model looked at which source. ``results.jsonl`` grows by a line an item; ``.stamps``
grows beside it by the size and change time of the item's file, so that a file that was replaced is looked
at again. Only whole lines count: a torn last one is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from offnominal.cli.column_maps import ColumnMaps
from offnominal.cli.failures import Failure
from offnominal.core.detections import Detection
from offnominal.core.source import Source
from offnominal.core.store import atomic_path, read_json, write_json

RECORDS, STAMPS, RUN, MAPS, REPORT = "results.jsonl", ".stamps", "run.json", "maps", "report.html"
LINE_LIMIT = 1 << 20
SLUG_BYTES = 80


def map_name(item: str) -> str:
    """A file name for an item's map: safe on every platform, and another one for every other item."""
    slug = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", item)).strip("._-")
    slug = slug.encode("utf-8", "ignore")[:SLUG_BYTES].decode("utf-8", "ignore")
    digest = hashlib.sha256(item.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{slug or 'item'}-{digest}.tiff"


def stamp(source: Source, position: int) -> str:
    """Size and change time of an item's file; "-" where it has none."""
    locate = getattr(source, "path", None)
    path = locate(position) if callable(locate) else None
    if path is None:
        return "-"
    try:
        status = os.stat(path)
    except OSError:
        return "?"
    return f"{status.st_size}:{status.st_mtime_ns}"


class Results:
    """Records of one run in a folder; a run that was killed goes on where it stopped.

    Parameters
    ----------
    folder : Path
    facts : mapping
        What records depend on (model digest, source, version …): other facts, another run.
    maps : {"none", "anomalous", "all"}
        Of which items to keep the map.
    restart : bool
        Whether to drop what another run left.
    columns : list of str, optional
        Where maps say what each column of a row adds: the columns, whose maps are kept in one file.

    Raises
    ------
    Failure
        The folder holds another run's results, or what is no results at all.
    """

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, Any],
        maps: str,
        *,
        restart: bool = False,
        columns: list[str] | None = None,
    ) -> None:
        self.folder = folder
        self.facts = dict(facts)
        self.maps = maps
        self._by_column = None if columns is None else ColumnMaps(folder, columns)
        self._records: BinaryIO | None = None
        self._stamps: BinaryIO | None = None
        self._claim(restart)

    def _claim(self, restart: bool) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise Failure(f"{self.folder} is a file; --out takes a folder")
        run, records = self.folder / RUN, self.folder / RECORDS
        if run.is_file() and not restart:
            found = read_json(run)
            before = found.get("facts") if isinstance(found, dict) else None
            if before != self.facts:
                raise Failure(
                    f"{self.folder} holds results of {self._other(before)}; "
                    "choose another --out, or --restart"
                )
        elif records.exists() and not restart:
            raise Failure(f"{records} is there and {RUN} is not; choose another --out, or --restart")
        if restart:
            for name in (RECORDS, STAMPS, REPORT, RUN):
                (self.folder / name).unlink(missing_ok=True)
            for file in (self.folder / MAPS).glob("*-????????????.tiff"):
                file.unlink()
            if self._by_column is not None:
                self._by_column.path.unlink(missing_ok=True)
        write_json(run, {"facts": self.facts, "done": False})

    def _other(self, before: Any) -> str:
        if not isinstance(before, dict):
            return "an unknown run"
        words = {"model_digest": "another model", "source": f"another source ({before.get('source')})"}
        changed = [key for key in self.facts if before.get(key) != self.facts[key]]
        return words.get(changed[0], f"a run with another {changed[0]}") if changed else "another run"

    def keep(self, source: Source, localises: bool) -> list[int]:
        """Keep the records that still hold, drop the others, and return the positions left to do."""
        places = {reference.item: position for position, reference in enumerate(source.references)}
        kept: dict[int, tuple[bytes, bytes]] = {}
        mapped = set() if self._by_column is None else self._by_column.items()
        whole = True
        for line, mark in self._lines():
            record = _parsed(line)
            position = None if record is None else places.get(record.item)
            if (
                record is None
                or position is None
                or position in kept
                or not self._holds(record, localises, mapped)
                or mark.decode("ascii", "replace").strip() != stamp(source, position)
            ):
                whole = False
            else:
                kept[position] = (line, mark)
        if not whole or self._torn():
            self._rewrite(list(kept.values()))
        return [position for position in range(len(source)) if position not in kept]

    def _holds(self, record: Detection, localises: bool, mapped: set[str]) -> bool:
        """Whether a record need not be made again: it is no error, and its map is where it is wanted."""
        if record.error is not None:
            return False
        if not (localises and self._wants_map(record)):
            return True
        if self._by_column is not None:
            return record.item in mapped
        return record.map_file is not None and (self.folder / record.map_file).is_file()

    def _wants_map(self, record: Detection) -> bool:
        return self.maps == "all" or (self.maps == "anomalous" and record.anomalous is True)

    def _lines(self) -> Iterator[tuple[bytes, bytes]]:
        records, stamps = self.folder / RECORDS, self.folder / STAMPS
        if not (records.is_file() and stamps.is_file()):
            return
        with open(records, "rb") as lines, open(stamps, "rb") as marks:
            while (line := lines.readline(LINE_LIMIT)).endswith(b"\n") and (
                mark := marks.readline(200)
            ).endswith(b"\n"):
                yield line, mark

    def _torn(self) -> bool:
        """Whether the two files end in the middle of a line, or not at the same line."""
        counts = []
        for name in (RECORDS, STAMPS):
            file = self.folder / name
            data = file.read_bytes() if file.is_file() else b""
            if data and not data.endswith(b"\n"):
                return True
            counts.append(data.count(b"\n"))
        return counts[0] != counts[1]

    def _rewrite(self, lines: list[tuple[bytes, bytes]]) -> None:
        # Records first: with fewer records than stamps, or stamps of others, items are only looked at again.
        for name, which in ((STAMPS, 1), (RECORDS, 0)):
            with atomic_path(self.folder / name) as temporary:
                temporary.write_bytes(b"".join(line[which] for line in lines))

    def __enter__(self) -> Self:
        self._records = open(self.folder / RECORDS, "ab")
        self._stamps = open(self.folder / STAMPS, "ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._records, self._stamps):
            if file is not None:
                try:
                    file.close()
                except OSError:
                    if error is None:
                        raise

    def add(self, record: Detection, mark: str) -> Detection:
        """Write a record, its map before it where it is wanted; return it as written."""
        from dataclasses import replace

        assert self._records is not None
        assert self._stamps is not None
        try:
            if record.map is not None and self._wants_map(record):
                if self._by_column is not None:
                    name = self._by_column.add(record.item, record.map)
                else:
                    name = f"{MAPS}/{map_name(record.item)}"
                    write_map(self.folder / name, record.map)
                record = replace(record, map_file=name)
            text = json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False)
            self._records.write(text.encode("utf-8", "backslashreplace") + b"\n")
            self._records.flush()
            self._stamps.write(mark.encode() + b"\n")
            self._stamps.flush()
        except OSError as error:
            raise Failure(
                f"{self.folder}: cannot be written ({error.strerror or error}); what is done is kept: "
                "make room, then give the same command again"
            ) from error
        return record

    def records(self) -> Iterator[Detection]:
        """Yield the records as they stand in the file."""
        for line, _ in self._lines():
            record = _parsed(line)
            if record is not None:
                yield record

    def finish(self, source: Source, outcome: Mapping[str, Any]) -> None:
        """Put the records into the source's order, and say that the run is done."""
        places = {reference.item: position for position, reference in enumerate(source.references)}
        lines = list(self._lines())
        order = [places[record.item] for line, _ in lines if (record := _parsed(line)) is not None]
        if order != sorted(order):
            ranked = sorted(range(len(lines)), key=order.__getitem__)
            self._rewrite([lines[position] for position in ranked])
        if self._by_column is not None:
            self._by_column.settle(places)
        write_json(self.folder / RUN, {"facts": self.facts, "done": True, **outcome})

    def read_map(self, record: Detection) -> npt.NDArray[np.float32] | None:
        """The picture-like map of a record, where it was written."""
        if record.map_file is None or self._by_column is not None:
            return None
        import tifffile

        try:
            return np.asarray(tifffile.imread(self.folder / record.map_file), dtype=np.float32)
        except (OSError, ValueError, tifffile.TiffFileError):
            return None


def _parsed(line: bytes) -> Detection | None:
    """A record from its line, None where it is not one."""
    try:
        value = json.loads(line)
        return Detection.from_json(value) if isinstance(value.get("item"), str) else None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def write_map(path: Path, values: npt.NDArray[np.float32]) -> None:
    """Write a map as float32 TIFF, atomically."""
    import io

    import tifffile

    whole = io.BytesIO()  # written in one piece: a full disk then says that it is full
    tifffile.imwrite(whole, values.astype(np.float32, copy=False), photometric="minisblack", metadata=None)
    with atomic_path(path) as temporary:
        temporary.write_bytes(whole.getbuffer())
