"""``offnominal catalogue``: what there is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from offnominal.cli.console import Console
from offnominal.cli.console import command as command_of

FACETS = (
    "modality",
    "kind",
    "setting",
    "supervision",
    "scope",
    "explains",
    "localises",
    "streams",
    "trains",
    "extra",
)


@click.command()
@click.option(
    "--by", type=click.Choice(FACETS), metavar="FACET", help=f"Group by one of {', '.join(FACETS)}."
)
@command_of
def command(console: Console, by: str | None) -> None:
    """List the methods, from the cards beside their code."""
    from offnominal.core.card import catalogue

    cards = [asdict(card) for card in catalogue()]
    if console.as_json:
        console.result(cards if by is None else _grouped(cards, by))
        return
    if by is None:
        console.table(_rows(cards), COLUMNS)
        console.say(f"{len(cards)} methods.")
        return
    for value, members in _grouped(cards, by).items():
        console.table(_rows(members), COLUMNS, title=f"{by}: {value} ({len(members)})")
        console.say()


COLUMNS = ("name", "modality", "row", "year", "setting", "maps", "streams", "what")


def _rows(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **{key: card[key] for key in ("name", "modality", "row")},
            "year": str(card["year"]),
            "setting": ", ".join(card["setting"]),
            "maps": bool(card["localises"]),
            "streams": bool(card["streams"]),
            "what": card["summary"],
        }
        for card in cards
    ]


def _grouped(cards: list[dict[str, Any]], facet: str) -> dict[str, list[dict[str, Any]]]:
    """Cards by value of a facet; a card with several values stands under each."""
    found: dict[str, list[dict[str, Any]]] = {}
    for card in cards:
        values = card[facet] if isinstance(card[facet], tuple | list) else [card[facet]]
        for value in values:
            word = {True: "yes", False: "no", None: "none"}.get(value, str(value))
            found.setdefault(word, []).append(card)
    return dict(sorted(found.items()))
