"""The record of one item: score, p-value, verdict and places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BASES = ("rank", "tail", "declared")


@dataclass(frozen=True, slots=True)
class Region:
    """A place inside an item.

    Attributes
    ----------
    kind : str
        ``box`` (``[x0, y0, x1, y1]`` in pixels, half-open), ``span``, ``column``, ``channel``, ``token`` or
        ``node``.
    where : JSON value
        The place, in the form of its kind.
    score : float
        The largest map value in it.
    """

    kind: str
    where: Any
    score: float

    def to_json(self) -> dict[str, Any]:
        """Return the region as it stands in ``results.jsonl``."""
        return {"kind": self.kind, "where": self.where, "score": self.score}


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found of one item.

    Attributes
    ----------
    item, source, index, product
        As in `core.source.Reference`.
    score : float or None
        Higher is more anomalous; None where the item could not be read.
    p_value : float or None
        Share of normal items that would score as high; None where there is no calibration.
    basis : str or None
        What the p-value rests on: ``rank``, ``tail``, ``declared``, or None.
    anomalous : bool or None
        The verdict at the false-alarm rate asked for; None where there is none.
    regions : tuple of Region
        Places of the largest map values.
    map : ndarray (H, W) float32, or None
        Where inside the item, at the item's own size.
    map_file : str or None
        Where the map was written, relative to the results.
    error : str or None
        Why the item could not be used.
    """

    item: str
    source: str
    index: int | None = None
    score: float | None = None
    p_value: float | None = None
    basis: str | None = None
    anomalous: bool | None = None
    regions: tuple[Region, ...] = ()
    error: str | None = None
    product: str | None = None
    map: npt.NDArray[np.float32] | None = None
    map_file: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as a line of ``results.jsonl`` (every key always there)."""
        return {
            "item": self.item,
            "source": self.source,
            "index": self.index,
            "score": self.score,
            "p_value": self.p_value,
            "basis": self.basis,
            "anomalous": self.anomalous,
            "regions": [region.to_json() for region in self.regions],
            "map": self.map_file,
            "error": self.error,
            **({"product": self.product} if self.product is not None else {}),
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Detection:
        """Rebuild a record from a line of ``results.jsonl`` (without its map)."""
        fields: dict[str, Any] = {
            key: line.get(key) for key in cls.__slots__ if key not in ("regions", "map", "map_file")
        }
        regions = tuple(Region(**region) for region in line.get("regions") or ())
        return cls(**fields, regions=regions, map_file=line.get("map"))
