"""Sources and models as the command line names them."""

from __future__ import annotations

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

DEFAULTS = {"image": "patchcore"}
"""What ``auto`` means, by modality."""


def choose(detector: str, modality: str | None) -> tuple[str, str | None]:
    """Settle ``auto``: images are what is read where nothing else is said."""
    if detector != "auto":
        return detector, modality
    modality = modality or "image"
    if modality not in DEFAULTS:
        raise click.UsageError(f"there is no default detector for {modality} yet; choose one with --detector")
    return DEFAULTS[modality], modality


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
