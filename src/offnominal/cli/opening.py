"""Sources and models as the command line names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offnominal.cli.failures import Failure
from offnominal.core.card import catalogue
from offnominal.core.errors import BadItem, BadItems
from offnominal.core.model_folder import HEADER
from offnominal.core.source import Source
from offnominal.data import open_source
from offnominal.persistence import load, make

if TYPE_CHECKING:
    from offnominal.detector import Detector

DEFAULTS = {"image": "patchcore", "table": "knn"}
"""What ``auto`` means, by modality, where no plan says more (`offnominal.cli.planning`)."""

TABLES = frozenset({".csv", ".tsv", ".parquet", ".pq", ".arrow", ".feather", ".ipc", ".jsonl", ".ndjson"})
"""Endings of tables."""


def choose(detector: str, modality: str | None, source: str) -> tuple[str, str | None]:
    """Settle ``auto``: by the modality, or by what the source looks like where none is said."""
    if detector != "auto":
        return detector, modality
    modality = modality or looks_like(source)
    if modality not in DEFAULTS:
        raise click.UsageError(f"there is no default detector for {modality} yet; choose one with --detector")
    return DEFAULTS[modality], modality


def looks_like(source: str) -> str:
    """Modality of a source by its name: tables are called like tables, all else is images.

    Text that is called like a table and has a column of paths is a manifest of images.
    """
    suffix = Path(source).suffix.lower()
    if suffix not in TABLES:
        return "image"
    try:
        with open(source, "rb") as file:
            first = file.readline(1 << 16).decode("utf-8-sig", "replace")
    except OSError:
        return "table"
    names = {name.strip().strip('"').lower() for name in re.split("[,;\t{}:]", first)}
    return "image" if names & {"path", "source-ref"} else "table"


def open_model(model: str) -> Detector:
    """Load a model folder, or make a detector that needs no fit by its name.

    Raises
    ------
    Failure
        Neither.
    ModelRefused
        The folder is not what was written.
    """
    if Path(model).is_dir() or (Path(model) / HEADER).is_file():
        return load(model)
    free = sorted(
        {card.name for card in catalogue() if card.kind == "detector" and "zero-shot" in card.setting}
    )
    if model in free:
        return make(model)
    if model in {card.name for card in catalogue()}:
        raise Failure(f"{model} has to be fitted first: offnominal fit SOURCE --detector {model} --out MODEL")
    raise Failure(f"{model}: no such model folder; `offnominal fit` makes one")


def usable(source: Source, work: Callable[[Source], object], on_bad: str) -> tuple[Source, list[BadItem]]:
    """Do work on a source, and again without the items that cannot be used.

    Parameters
    ----------
    source : Source
    work : callable
        Raises `BadItems` where there are some.
    on_bad : {"skip", "refuse"}
        Whether to go on without them.

    Returns
    -------
    source : Source
        What the work was done on.
    bad : list of BadItem
        What was left out.

    Raises
    ------
    BadItems
        There are some and ``on_bad`` is "refuse", or nothing is left.
    """
    bad: list[BadItem] = []
    while True:
        try:
            work(source)
            return source, bad
        except BadItems as found:
            refused = {entry.item for entry in found.items}
            good = [i for i, reference in enumerate(source.references) if reference.item not in refused]
            bad += found.items
            if on_bad == "refuse" or not good or len(good) == len(source):
                raise BadItems(bad) from None
            source = source.subset(good)


def open_items(source: str, modality: str) -> Source:
    """Open a source named on the command line."""
    return open_source(source, modality)
