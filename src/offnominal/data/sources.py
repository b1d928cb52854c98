"""From what a user names to a source: the one place that knows every modality's reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from offnominal.core.errors import BadSource
from offnominal.core.source import Source
from offnominal.data.image_source import images
from offnominal.data.tables import tables

READERS: Mapping[str, Callable[[Any], Source]] = {"image": images, "table": tables}
ALIASES = {"vectors": "table"}
"""Other names of a modality: vectors are a table of numbers."""


def open_source(items: Any, modality: str) -> Source:
    """Return ``items`` as a source.

    Parameters
    ----------
    items : source or what the modality's reader accepts
        A `Source` is returned as it is.
    modality : str
        What the reader must deliver.

    Raises
    ------
    BadSource
        The source is of another modality, or no reader exists for this one.
    """
    modality = ALIASES.get(modality, modality)
    if isinstance(items, Source):
        if items.modality != modality:
            raise BadSource(f"{items.name}: a source of modality {items.modality}, {modality} is needed")
        return items
    if modality not in READERS:
        raise BadSource(
            f"there is no reader for modality {modality!r}; there is: {', '.join(sorted(READERS))}"
        )
    return READERS[modality](items)
