"""``offnominal audit``: judge a detector beyond its scores."""

from __future__ import annotations

from pathlib import Path

import click

from offnominal.cli.console import Console
from offnominal.cli.console import command as command_of


@click.command()
@click.argument("check", type=click.Choice(["trust"]))
@click.argument("model")
@click.argument("source")
@click.option(
    "--out",
    default="audit",
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the page, the table and the JSON are written.",
)
@click.option(
    "--most", type=click.IntRange(1), default=50, show_default=True, help="Images explained at most."
)
@click.option(
    "--samples",
    type=click.IntRange(20),
    default=500,
    show_default=True,
    help="Scores asked for an image and explanation.",
)
@command_of
def command(
    console: Console, check: str, model: str, source: str, out: Path, most: int, samples: int
) -> None:
    """Audit MODEL on SOURCE.

    trust: do correct verdicts rest on the right pixels? SOURCE is a manifest of images
    with labels and masks, normal ones among them.
    """
    from offnominal.audit import trust, write_trust
    from offnominal.cli.opening import open_items, open_model
    from offnominal.report import Column

    detector = open_model(model)
    found = trust(detector, open_items(source, detector.card.modality), most=most, samples=samples)
    page = write_trust(found, out)
    columns = [
        Column("explanation"),
        Column("correct", "correct verdicts"),
        Column("wrong_reason", "for the wrong reason"),
        Column("wrong_share", "share", percent=True, digits=0),
        Column("jaccard", "Jaccard, mean", 2),
        Column("chance", "chance, mean", 2),
    ]
    console.table(found.summary(), columns)
    for text in found.skipped:
        console.say(f"left out: {text}")
    console.say(f"Page: {page}")
    console.result({**found.to_json(), "page": str(page)})
