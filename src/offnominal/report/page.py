"""The report: one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.core.detections import Detection, Region
from offnominal.core.errors import BadItem
from offnominal.core.store import atomic_path
from offnominal.report import summary as words
from offnominal.report.gather import Gathered, gather
from offnominal.report.histogram import histogram
from offnominal.report.overlay import heat_map, levels, palette
from offnominal.report.picture import display, heat_uri, picture_uri
from offnominal.report.summary import Outcome, Summary, state
from offnominal.report.table import cell_text, number, visible

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Summary", "write_report"]

PICTURE_BYTES = 44_000
"""Most bytes of one embedded picture, before base64: 64 of them and their maps stay under 6 MB."""

REGION_ROWS = 500
COLUMNS_SHOWN = 4
"""Columns named in the line of a row."""
COLUMNS_OFTEN = 15
VALUE_SIGNS = 40
"""Signs of a cell's value that are shown."""
TITLE = "Off-normal report"


def write_report(
    path: str | os.PathLike[str],
    records: Iterable[Detection],
    *,
    read_image: Callable[[str], npt.NDArray[np.generic] | None] | None = None,
    summary: Summary | Mapping[str, Any],
    read_map: Callable[[Detection], npt.NDArray[np.floating] | None] | None = None,
    read_row: Callable[[str], Mapping[str, Any]] | None = None,
    pictures: int = 60,
    typical: int = 4,
    picture_side: int = 384,
    listed: int = 20_000,
) -> Path:
    """Write a report as one HTML file that fetches nothing and runs no foreign code.

    Records are gone through once; of their maps only small copies of the pictured ones are kept, and pictures
    are made one at a time while the page is written, so memory does not grow with the number of items beyond
    their names and numbers. The file appears whole or not at all.

    Parameters
    ----------
    path : path-like
        The file; missing folders are made.
    records : iterable of Detection
        In any order, with or without maps; those with an ``error`` are listed apart.
    read_image : callable, optional
        Pixels (H, W) or (H, W, C) of an item by its name, None where there is no picture. A `BadItem` it
        raises leaves a blank place. Without it the report has tables only.
    summary : Summary or mapping
        What was run; each part is optional.
    read_map : callable, optional
        Asked for the map of a pictured record that carries none (one read back from ``results.jsonl``).
    read_row : callable, optional
        Values of an item's columns by name, for items that are rows: those of columns that stand out are
        shown.
    pictures : int, default 60
        So many of the most anomalous items are shown with picture and map.
    typical : int, default 4
        So many normals of middling score are shown beside them, to compare with.
    picture_side : int, default 384
        Longest side of the embedded pictures, in pixels.
    listed : int, default 20000
        At most so many rows in the table of all items, the most anomalous; the page says what it leaves out.

    Returns
    -------
    Path
        The written file.
    """
    gathered = gather(
        records,
        pictures=pictures if read_image else 0,
        typical=typical if read_image else 0,
        read_map=read_map,
    )
    outcome = Outcome.of([*gathered.ranked, *gathered.bad], summary)
    context = {
        **_header(outcome),
        **_tables(gathered, outcome, listed, read_row),
        "cards": _cards(gathered, outcome, read_image, picture_side),
        "pictured": len(gathered.top) + len(gathered.typical),
        "top": len(gathered.top),
        "typical": len(gathered.typical),
        "legend": _legend(gathered),
        "made": list(_made(summary)),
    }
    target = Path(path)
    with (
        atomic_path(target) as temporary,
        # What is not text (half a surrogate pair in a title, say) must not stop the report.
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.writelines(_template().generate(context))
    return target


@dataclass(frozen=True, slots=True)
class CardView:
    """One card of the gallery, as the template reads it."""

    rank: int
    item: str
    folder: str
    name: str
    product: str | None
    state: str
    score: str
    p_value: str
    basis: str
    sort_score: float
    sort_p: float
    typical: bool
    picture: str | None
    heat: str | None
    width: int
    height: int
    boxes: list[dict[str, Any]]
    alt: str


def _cards(
    gathered: Gathered,
    outcome: Outcome,
    read_image: Callable[[str], npt.NDArray[np.generic] | None] | None,
    side: int,
) -> Iterator[CardView]:
    for position in [*gathered.top, *gathered.typical]:
        record = gathered.ranked[position]
        image = _image(record, read_image)
        small = gathered.maps.get(position)
        height, width = (
            image.shape[:2] if image is not None else (small.shape if small is not None else (3, 4))
        )
        heat = None
        if small is not None and gathered.scale is not None:
            level = levels(small, gathered.scale.low, gathered.scale.high)
            heat = heat_uri(level, palette())
        boxes = [_box(region) for region in record.regions if _is_box(region)]
        verdict = words.WORDS[state(record)]
        name = visible(record.item)
        folder, _, file = name.rpartition("/")
        places = f", {len(boxes)} {'place' if len(boxes) == 1 else 'places'} marked" if boxes else ""
        yield CardView(
            rank=position + 1,
            item=name,
            folder=folder if file else "",
            name=file or name,
            product=None if record.product is None else visible(record.product),
            state=state(record),
            score=number(float(record.score or 0.0)),
            p_value=words.p_text(record.p_value),
            basis=words.basis_words(record.basis),
            sort_score=float(record.score or 0.0),
            sort_p=2.0 if record.p_value is None else record.p_value,
            typical=position in gathered.typical,
            picture=None if image is None else picture_uri(image, side, PICTURE_BYTES),
            heat=heat,
            width=width,
            height=height,
            boxes=boxes,
            alt=f"{name}: {verdict}{places}",
        )


def _image(
    record: Detection, read_image: Callable[[str], npt.NDArray[np.generic] | None] | None
) -> npt.NDArray[np.uint8] | None:
    if read_image is None:
        return None
    try:
        pixels = read_image(record.item)
    except (BadItem, OSError):
        return None  # It was there when it was scored; the page shows an empty place with the map.
    return None if pixels is None else display(pixels)


def _is_box(region: Region) -> bool:
    where = region.where
    return region.kind == "box" and len(where) == 4 and all(math.isfinite(side) for side in where)


def _box(region: Region) -> dict[str, Any]:
    x0, y0, x1, y1 = region.where
    return {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "score": number(region.score)}


def _header(outcome: Outcome) -> dict[str, Any]:
    summary = outcome.summary
    found, condition = outcome.headline()
    source = summary.get("source")
    return {
        "title": visible(str(summary.get("title") or source or TITLE)),
        "found": found,
        "condition": condition,
        "explanation": [visible(said) for said in outcome.explanation()],
        "notes": [words.sentence(visible(str(note))) for note in summary.get("notes") or ()],
        "counts": outcome.counts,
        "total": outcome.total,
        "nouns": outcome.noun(2),
        "noun": outcome.noun(1),
        "states": words.STATES,
        "words": words.WORDS,
        "machine": _machine(outcome),
    }


def _machine(outcome: Outcome) -> str:
    """Counts and circumstances as JSON that is safe inside a script element."""
    known = ["title", "modality", "source", "model", "detector", "parameters", "encoder", "versions"]
    known += ["decision", "times", "started", "command"]
    value = {
        "counts": outcome.counts,
        "bases": {str(basis): count for basis, count in outcome.bases.items()},
        **{key: outcome.summary[key] for key in known if outcome.summary.get(key) is not None},
    }
    text = json.dumps(_finite(value), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    """The value in JSON types: NaN and infinities as null, what is not JSON as text."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_finite(entry) for entry in value]
    return str(value)


def _tables(
    gathered: Gathered,
    outcome: Outcome,
    listed: int,
    read_row: Callable[[str], Mapping[str, Any]] | None,
) -> dict[str, Any]:
    shown = {*gathered.top, *gathered.typical}
    decision = outcome.summary.get("decision") or {}
    limit = decision.get("threshold")
    threshold = None if limit is None else number(float(limit))
    calibration = outcome.summary.get("calibration_scores")
    calibration = [] if calibration is None else [float(score) for score in calibration]
    normals = len(calibration)
    products = sorted({visible(record.product) for record in gathered.ranked if record.product is not None})
    by_column = outcome.summary.get("modality") == "table"
    places = (
        (position, record, region)
        for position, record in enumerate(gathered.ranked)
        for region in record.regions
    )
    region_rows = [
        {
            "rank": position + 1,
            "card": position in shown,
            "item": visible(record.item),
            "kind": region.kind,
            "where": _where(region),
            "score": number(region.score),
        }
        for (position, record, region), _ in zip(places, range(REGION_ROWS), strict=False)
    ]
    return {
        "products": products,
        "rows": (
            {
                "rank": position + 1,
                "card": position in shown,
                "item": visible(record.item),
                "product": "" if record.product is None else visible(record.product),
                "state": state(record),
                "score": number(float(record.score or 0.0)),
                "sort_score": float(record.score or 0.0),
                "p_value": words.p_text(record.p_value),
                "sort_p": 2.0 if record.p_value is None else record.p_value,
                "basis": words.basis_words(record.basis),
                "regions": len(record.regions),
                "columns": list(_columns(record, read_row if position < REGION_ROWS else None)),
            }
            for position, record in enumerate(gathered.ranked[:listed])
        ),
        "readable": len(gathered.ranked),
        "listed": min(listed, len(gathered.ranked)),
        "bad": [_bad(record) for record in gathered.bad[:listed]],
        "bad_total": len(gathered.bad),
        "regions": region_rows if not by_column else [],
        "by_column": by_column,
        "columns": columns_often(gathered.ranked),
        "boxes": any(_is_box(region) for record in gathered.ranked for region in record.regions),
        "region_total": sum(len(record.regions) for record in gathered.ranked),
        "bases": any(record.basis is not None for record in gathered.ranked),
        "histogram": histogram(
            [float(record.score or 0.0) for record in gathered.ranked],
            [state(record) for record in gathered.ranked],
            calibration=calibration,
            threshold=None if limit is None else float(limit),
        ),
        "threshold": threshold,
        "normals": normals,
        "facts": [
            (name, visible(str(text)))
            for name, text in (
                ("detector", outcome.summary.get("detector")),
                ("threshold", threshold),
                ("calibration", outcome.counted(normals) if normals else None),
                ("started", outcome.summary.get("started")),
            )
            if text
        ],
    }


def _columns(
    record: Detection, read_row: Callable[[str], Mapping[str, Any]] | None
) -> Iterator[tuple[str, str, str]]:
    """Name, value and contribution of the columns that stand out in a row, the first few."""
    found = [region for region in record.regions if region.kind == "column"]
    if not found:
        return
    values: Mapping[str, Any] = {}
    if read_row is not None:
        try:
            values = read_row(record.item)
        except (BadItem, OSError):
            values = {}  # it was there when it was scored; the names are still worth showing
    for region in found[:COLUMNS_SHOWN]:
        name = str(region.where)
        yield visible(name), visible(cell_text(values.get(name))[:VALUE_SIGNS]), number(region.score)


def columns_often(ranked: list[Detection]) -> list[dict[str, Any]]:
    """Columns that stand out in off-normal rows (in all, where none has a verdict), the most frequent first.

    Returns
    -------
    list of dict
        ``name``, ``count`` of rows, ``share`` of the most frequent one's count, at most `COLUMNS_OFTEN`.
    """
    off = [record for record in ranked if record.anomalous is True]
    if not off and all(record.anomalous is None for record in ranked):
        off = ranked
    counts = Counter(
        str(region.where) for record in off for region in record.regions if region.kind == "column"
    )
    found = counts.most_common(COLUMNS_OFTEN)
    return [{"name": visible(name), "count": count, "share": count / found[0][1]} for name, count in found]


def _bad(record: Detection) -> dict[str, str]:
    reason, _, remedy = (record.error or "no score").partition("; ")
    return {"item": visible(record.item), "reason": visible(reason), "remedy": visible(remedy)}


def _where(region: Region) -> str:
    if _is_box(region):
        x0, y0, x1, y1 = region.where
        return f"x {x0} to {x1}, y {y0} to {y1}"
    if region.kind == "column":
        return visible(str(region.where))
    return visible(json.dumps(_finite(region.where), ensure_ascii=False))


def _legend(gathered: Gathered) -> dict[str, Any] | None:
    if gathered.scale is None or not gathered.maps:
        return None
    steps = heat_map(np.linspace(0.0, 1.0, 9, dtype=np.float32)[None], 0.0, 1.0)[0]
    stops = [
        {"offset": f"{12.5 * place:g}%", "colour": f"#{r:02x}{g:02x}{b:02x}", "alpha": f"{a / 255:.3f}"}
        for place, (r, g, b, a) in enumerate(steps.tolist())
    ]
    return {"stops": stops, "low": number(gathered.scale.low), "high": number(gathered.scale.high)}


def _made(summary: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Groups of (name, text, link) that tell how the run was made."""
    card = summary.get("card") or {}
    link = str(card.get("url") or "")
    paper = f"{card.get('title', '')} ({card['year']})" if card.get("year") else str(card.get("title") or "")
    run = [
        ("detector", str(summary.get("detector") or ""), ""),
        ("method", paper, link if link.startswith(("https://", "http://")) else ""),
        ("source", str(summary.get("source") or ""), ""),
        ("model", str(summary.get("model") or ""), ""),
        ("started", str(summary.get("started") or ""), ""),
        ("command", str(summary.get("command") or ""), ""),
    ]
    times = {name: words.seconds(float(value)) for name, value in (summary.get("times") or {}).items()}
    decision = dict(summary.get("decision") or {})
    products = decision.pop("products", None) or {}
    for heading, entries in (
        ("Run", [entry for entry in run if entry[1]]),
        ("Parameters", _entries(summary.get("parameters"))),
        ("Encoder", _entries(summary.get("encoder"))),
        ("Calibration", _entries(decision)),
        *((f"Calibration of {name}", _entries(told)) for name, told in products.items()),
        ("Times", _entries(times)),
        ("Versions", _entries(summary.get("versions"))),
    ):
        if entries:
            yield visible(heading), [(visible(name), visible(text), link) for name, text, link in entries]


def _entries(values: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    return [(str(key).replace("_", " "), _value(key, value), "") for key, value in (values or {}).items()]


def _value(key: str, value: Any) -> str:
    value = _finite(value)
    if isinstance(value, float):
        return words.percent(value) if str(key).endswith("rate") else number(value)
    if isinstance(value, str):
        return value
    if value is None:
        return "none"
    return json.dumps(value, ensure_ascii=False)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("offnominal.report"),
        autoescape=True,  # every name in a page may come from a stranger's file system
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = _whole
    return environment


def _whole(text: str) -> str:
    """A heading whose hyphened words are not broken at the end of a line."""
    return text.replace("-", "\N{NON-BREAKING HYPHEN}")


def _template() -> Any:
    """The page's template, with its own style and script allowed by hash and nothing else."""
    from markupsafe import Markup

    environment = _environment()
    own: dict[str, str] = {}
    for name, file in (("style", "style.css"), ("script", "script.js")):
        text = (environment.loader.get_source(environment, file)[0]).replace("\r\n", "\n")  # type: ignore[union-attr]
        digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        own |= {name: Markup(text), f"{name}_hash": digest}
    return environment.get_template("page.html", globals={**own, "safe_json": Markup})
