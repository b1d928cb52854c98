"""Manifests: a table of image paths with label, mask, group, product, kind and level (CSV, TSV, JSON, JSONL).

Also read: the JSON lines of AWS (``source-ref``, ``anomaly-label``, ``anomaly-mask-ref``).
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from offnominal.core.errors import BadSource

SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".manifest"})
MAX_BYTES = 256 << 20

_NORMAL = frozenset({"0", "normal", "good", "ok", "false"})
_ANOMALOUS = frozenset({"1", "anomalous", "anomaly", "defect", "defective", "bad", "ng", "true"})
_UNKNOWN = frozenset({"", "-1", "unknown", "none", "null"})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a manifest; paths are joined to the manifest's folder.

    Attributes
    ----------
    colours : tuple of (r, g, b), or None
        Colours that mean *anomalous* in the mask; None: everything that is not black.
    """

    path: str
    label: int = -1
    mask: str | None = None
    colours: tuple[tuple[int, int, int], ...] | None = None
    group: str | None = None
    product: str | None = None
    kind: str | None = None
    level: float | None = None


def read_manifest(path: str) -> list[Row]:
    """Read a manifest.

    Raises
    ------
    BadSource
        It is too large, no text in UTF-8, malformed, or a row has no path or a label that is not understood.
    """
    size = os.path.getsize(path)
    if size > MAX_BYTES:
        raise BadSource(f"{path}: a manifest of {size:,} bytes, at most {MAX_BYTES:,} are read; split it")
    with open(path, "rb") as file:
        data = file.read(size)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSource(
            f"{path}: not text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    suffix = os.path.splitext(path)[1].lower()
    lines = _csv(path, text) if suffix in (".csv", ".tsv") else _json(path, text, whole=suffix == ".json")
    folder = os.path.dirname(path)
    return [_row(f"{path}, {where}", folder, fields) for where, fields in lines]


def _csv(path: str, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        if "path" not in names:
            raise BadSource(
                f"{path}: a manifest needs a column named path, it has {', '.join(names) or 'none'}"
            )
        reader.fieldnames = names
        for fields in reader:
            yield f"line {reader.line_num}", fields
    except csv.Error as error:
        raise BadSource(f"{path}, line {reader.line_num}: not CSV ({error})") from None


def _json(path: str, text: str, *, whole: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        if whole:
            value = json.loads(text)
            entries = value.get("items") if isinstance(value, dict) else value
            if not isinstance(entries, list):
                raise BadSource(
                    f"{path}: a manifest in JSON is a list of objects, or an object with such a list as items"
                )
            numbered = [(f"entry {number}", entry) for number, entry in enumerate(entries, 1)]
        else:
            numbered = [
                (f"line {number}", json.loads(line))
                for number, line in enumerate(text.split("\n"), 1)
                if line.strip()
            ]
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadSource):
            raise
        raise BadSource(f"{path}: not valid JSON ({error})") from None
    for where, entry in numbered:
        if isinstance(entry, str):
            entry = {"path": entry}
        if not isinstance(entry, dict):
            raise BadSource(f"{path}, {where}: an object with a path is needed")
        yield where, _from_aws(entry) if "source-ref" in entry else entry


def _from_aws(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    facts = entry.get("anomaly-label-metadata")
    named = facts.get("class-name") if isinstance(facts, dict) else None
    mask = entry.get("anomaly-mask-ref")
    facts = entry.get("anomaly-mask-ref-metadata")
    colours = facts.get("internal-color-map") if isinstance(facts, dict) else None
    kinds: dict[str, str] = {}
    for colour in colours.values() if isinstance(colours, dict) else ():
        if isinstance(colour, dict) and str(colour.get("class-name", "")).upper() != "BACKGROUND":
            kinds[str(colour.get("hex-color", ""))] = str(colour.get("class-name", ""))
    return {
        "path": entry["source-ref"],
        "label": named if named is not None else entry.get("anomaly-label"),
        "mask": mask,
        "colours": list(kinds),
        "kind": next(iter(kinds.values())) if len(kinds) == 1 else None,
        "elsewhere": True,
    }


def _row(where: str, folder: str, fields: Mapping[str, Any]) -> Row:
    path = _text(fields.get("path"))
    if path is None:
        raise BadSource(f"{where}: has no path")
    mask = _text(fields.get("mask"))
    locate = _nearby if fields.get("elsewhere") else os.path.join
    try:
        colours = tuple(_colour(colour) for colour in fields.get("colours") or ())
    except ValueError:
        raise BadSource(f"{where}: a colour of the mask is not of the form #rrggbb") from None
    return Row(
        path=locate(folder, path),
        label=_label(where, fields.get("label")),
        mask=None if mask is None else locate(folder, mask),
        colours=colours or None,
        group=_text(fields.get("group")),
        product=_text(fields.get("product")),
        kind=_text(fields.get("kind")),
        level=_level(where, fields.get("level")),
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value).strip()
    return text or None


def _label(where: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    word = str("" if value is None else value).strip().lower()
    if word in _UNKNOWN:
        return -1
    if word in _NORMAL:
        return 0
    if word in _ANOMALOUS:
        return 1
    raise BadSource(
        f"{where}: label {value!r} is not understood; write 0 or normal, 1 or anomalous, or leave it empty"
    )


def _level(where: str, value: Any) -> float | None:
    if (text := _text(value)) is None:
        return None
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not math.isfinite(level):
        raise BadSource(f"{where}: level {value!r} is not a finite number")
    return level


def _colour(text: str) -> tuple[int, int, int]:
    digits = text.lstrip("#")
    if len(digits) != 6:
        raise ValueError(text)
    value = int(digits, 16)
    return value >> 16, value >> 8 & 255, value & 255


def _nearby(folder: str, reference: str) -> str:
    """Find the local copy of a bucket's file: its longest path below the manifest or three folders up."""
    key = reference.split("://", 1)[-1]
    pieces = [piece for piece in key.split("/") if piece]
    starts = [folder or "."]
    for _ in range(3):
        starts.append(os.path.join(starts[-1], os.pardir))
    for first in range(len(pieces)):
        for start in starts:
            candidate = os.path.normpath(os.path.join(start, *pieces[first:]))
            if os.path.exists(candidate):
                return candidate
    return os.path.join(folder, *pieces)
