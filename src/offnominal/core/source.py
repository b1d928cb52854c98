"""Items and sources: what a detector reads, whatever the modality.

An *item* is what gets one score. A *source* is a sized, lazy sequence of items; what is known about an
item without opening it (its name, group, label …) is its *reference*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known of an item before it is read.

    Attributes
    ----------
    item : str
        Unique name within the source: path relative to it (posix), ``clip.mp4#120``, a row index, a time
        stamp.
    source : str
        The source as the user named it.
    index : int or None
        Position within a container (frame, row); None where the item is a file of its own.
    group : str or None
        Items of one group stay together in every split (same part, patient, batch).
    product : str or None
        Product kind: one model may know several, and each has its own calibration.
    label : int
        0 normal, 1 anomalous, -1 unknown.
    kind : str or None
        Kind of anomaly, where the source names it.
    level : float or None
        Severity, where the source names it.
    """

    item: str
    source: str
    index: int | None = None
    group: str | None = None
    product: str | None = None
    label: int = -1
    kind: str | None = None
    level: float | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """An item that has been read: its reference and its value.

    For images the value is an array (H, W, C): ``uint8`` in 0…255, ``uint16`` in 0…65535 or ``float32``.
    """

    reference: Reference
    value: Any


@runtime_checkable
class Source(Protocol):
    """A sized, lazy sequence of items. Reading is repeatable and safe from several threads."""

    name: str
    modality: str

    @property
    def references(self) -> Sequence[Reference]:
        """One reference an item, in order; known without opening any item."""

    def __len__(self) -> int: ...

    def read(self, position: int) -> Item:
        """Read one item; raises `BadItem` where it cannot be used."""

    def mask(self, position: int) -> npt.NDArray[np.bool_] | None:
        """Anomaly mask of an item at the item's own size, or None where the source has none."""

    def subset(self, positions: Sequence[int] | npt.NDArray[np.intp]) -> Source:
        """The same source, restricted to the given positions, in that order."""
