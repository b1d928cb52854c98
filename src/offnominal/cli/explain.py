"""``offnominal explain``: one item, in words and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offnominal.cli.console import Console
from offnominal.cli.console import command as command_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from offnominal.core.detections import Region
    from offnominal.core.source import Source
    from offnominal.detector import Detector

COLUMNS = 10
"""Columns of a row that are listed."""
SIDE = 512
"""Smaller images are drawn enlarged to about this, in pixels."""


@click.command()
@click.argument("model")
@click.argument("item")
@click.option(
    "--out",
    default="explained",
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the picture and the map are written.",
)
@click.option(
    "--normal",
    metavar="SOURCE",
    help="Normal rows, for a row of a table: the nearest ones are shown, and the smallest change that makes "
    "the row normal.",
)
@command_of
def command(console: Console, model: str, item: str, out: Path, normal: str | None) -> None:
    """Say how ITEM scores under MODEL, what the verdict rests on, and where it is off-normal.

    A row of a table is named by its number, as the results name it: parts.csv#17.
    """
    from offnominal.cli.described import asked_rate, columns_of, verdict_words
    from offnominal.cli.failures import Failure
    from offnominal.cli.opening import open_model
    from offnominal.report import Column
    from offnominal.report.table import number

    detector = open_model(model)
    if normal is not None and detector.card.modality != "table":
        raise click.UsageError(
            f"--normal goes with models of tables; {model} is one of {detector.card.modality}"
        )
    source = _one(item, detector.card.modality)
    (record,) = detector.detect(source)
    if record.error is not None:
        raise Failure(f"{record.item}: {record.error}")
    console.say(verdict_words(record, asked_rate(detector)))
    compared: dict[str, Any] = {}
    if normal is not None:
        from offnominal.cli.comparing import compare

        compared = compare(console, detector, source, normal)
    if not detector.card.localises:
        console.say(f"{detector.card.name} does not say where.")
    elif detector.map_level_ is None:
        console.say("Places are marked once the model is calibrated.")
    elif not record.regions:
        console.say("No place stands out from what normal items reach.")
    elif columns_of(detector) is None:
        level = number(detector.map_level_)
        rows = [
            {"place": f"x {x0}–{x1}, y {y0}–{y1}", "score": region.score}
            for region in record.regions
            for x0, y0, x1, y1 in [region.where]
        ]
        console.table(
            rows, [Column("place"), Column("score")], title=f"Places above {level}, the worst first"
        )
    if record.map is not None and (columns := columns_of(detector)) is not None:
        shares = dict(zip(columns, record.map.tolist(), strict=True))
        _say_columns(console, detector, source, shares)
        console.result({**record.to_json(), "columns": shares, **compared})
        return
    files: dict[str, str] = {}
    if record.map is not None:
        from PIL import Image

        from offnominal.cli.results import map_name, write_map
        from offnominal.core.store import atomic_path
        from offnominal.report import overlay

        name = map_name(record.item)
        picture = out / name.replace(".tiff", ".png")
        low = detector.map_typical_
        high = None if low is None else max(float(record.map.max()), 2 * (detector.map_level_ or low) - low)
        image, places = _enlarged(source.read(0).value, record.regions)
        drawn = overlay(image, record.map, low=low, high=high, regions=places)
        with atomic_path(picture) as temporary:
            Image.fromarray(drawn).save(temporary, format="PNG")
        write_map(out / name, record.map)
        files = {"picture": str(picture), "map": str(out / name)}
        console.say(f"Picture: {picture}")
        console.say(f"Map:     {out / name}")
    console.result({**record.to_json(), **files, **compared})


def _one(item: str, modality: str) -> Source:
    """The source of one item: of a table of several rows, the row named after ``#``."""
    from offnominal.cli.failures import Failure
    from offnominal.cli.opening import open_items

    name, sign, row = item.rpartition("#")
    if modality == "table" and sign and row.isdecimal() and not Path(item).exists():
        source = open_items(name, modality)
        if int(row) >= len(source):
            raise Failure(f"{name} has {len(source)} rows, numbered from 0; there is no row {row}")
        return source.subset([int(row)])
    source = open_items(item, modality)
    if len(source) != 1:
        hint = f"name a row, like {item}#0" if modality == "table" else "detect takes many"
        raise Failure(f"{item} holds {len(source)} items; explain takes one ({hint})")
    return source


def _say_columns(console: Console, detector: Detector, source: Source, shares: dict[str, float]) -> None:
    """The columns that add most to a row's score, with their values."""
    from offnominal.cli.described import row_values
    from offnominal.report import Column
    from offnominal.report.table import cell_text

    values = row_values(source, 0)
    ranked = sorted(shares, key=lambda name: -shares[name])
    level = detector.map_level_
    rows = [
        {
            "column": name,
            "value": cell_text(values.get(name)),
            "share": shares[name],
            "out": "stands out" if level is not None and shares[name] > level else "",
        }
        for name in ranked[:COLUMNS]
    ]
    more = f" (the first {COLUMNS} of {len(ranked)})" if len(ranked) > COLUMNS else ""
    headings = [Column("column"), Column("value"), Column("share", "adds to the score"), Column("out", "")]
    console.table(rows, headings, title=f"Columns, the worst first{more}")


def _enlarged(image: npt.NDArray[Any], regions: Sequence[Region]) -> tuple[npt.NDArray[Any], list[Region]]:
    """A small image in whole multiples of its size, with its regions, so that frames do not cover it."""
    factor = max(1, SIDE // max(image.shape[:2]))
    places = [
        replace(region, where=[factor * side for side in region.where]) if region.kind == "box" else region
        for region in regions
    ]
    return image.repeat(factor, axis=0).repeat(factor, axis=1), places
