"""One pass over any number of records, keeping few maps: those of the pictured items."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from offnominal.core.detections import Detection
from offnominal.core.seeds import generator
from offnominal.report.picture import shrink
from offnominal.report.summary import state

MAP_SIDE = 160
"""Longest side of a map in the page; maps are smooth, browsers interpolate."""

SAMPLE = 64
"""Normals drawn at random in the pass, among which the typical ones are found at its end."""

Map = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scale:
    """Ends of the one colour scale of a page."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a page is made of.

    Attributes
    ----------
    ranked : list of Detection
        All readable records without maps: off-normal first, then by falling score.
    bad : list of Detection
        Those that could not be read, in the order they came.
    top, typical : list of int
        Positions in ``ranked`` of the pictured items: the most anomalous, and normals of middling score.
    maps : dict of int to ndarray
        Small maps of pictured items, by position.
    scale : Scale or None
        Colour scale; None where there is no map.
    """

    ranked: list[Detection]
    bad: list[Detection]
    top: list[int]
    typical: list[int]
    maps: dict[int, Map]
    scale: Scale | None


def urgency(record: Detection) -> tuple[bool, float]:
    """What records are ranked by; scores of several products need not compare, verdicts do."""
    return record.anomalous is True, float(record.score or 0.0)


def gather(
    records: Iterable[Detection],
    *,
    pictures: int,
    typical: int,
    read_map: Callable[[Detection], npt.NDArray[np.floating] | None] | None = None,
) -> Gathered:
    """Go through records once.

    Parameters
    ----------
    records : iterable of Detection
    pictures : int
        How many of the most anomalous items keep their map.
    typical : int
        How many normals do.
    read_map : callable, optional
        Asked for the map of a pictured record that carries none.
    """
    light: list[Detection] = []
    bad: list[Detection] = []
    top: list[tuple[tuple[bool, float], int, Map | None]] = []
    sample: dict[int, Map | None] = {}
    places: list[int] = []
    levels: list[tuple[bool, float, float, float]] = []
    draw = generator(0, "report")
    normals = 0
    for record in records:
        if state(record) == "bad":
            bad.append(replace(record, map=None))
            continue
        place = len(light)
        light.append(replace(record, map=None))
        whole = record.map if record.map is not None and record.map.ndim == 2 else None
        if whole is not None:
            levels.append(_levels(record, whole))
        key = urgency(record)
        small: Map | None = None
        if pictures and (len(top) < pictures or (key, -place) > top[0][:2]):
            small = None if whole is None else shrink(whole, MAP_SIDE)
            # Places differ, so two entries never come to comparing their maps.
            (heapq.heappush if len(top) < pictures else heapq.heapreplace)(top, (key, -place, small))
        if typical and record.anomalous is not True:
            normals += 1
            slot = len(places) if len(places) < SAMPLE else int(draw.integers(normals))
            if slot < SAMPLE:
                if slot == len(places):
                    places.append(place)
                else:
                    sample.pop(places[slot])
                    places[slot] = place
                if small is None and whole is not None:
                    small = shrink(whole, MAP_SIDE)
                sample[place] = small
    order = sorted(range(len(light)), key=lambda place: (urgency(light[place]), -place), reverse=True)
    rank = {place: position for position, place in enumerate(order)}
    maps = {rank[-place]: small for _, place, small in top}
    shown = sorted(maps)
    left = {rank[place]: small for place, small in sample.items() if rank[place] not in maps}
    ranked = [light[place] for place in order]
    middle = _middle(ranked)
    nearest = sorted(left, key=lambda position: abs(float(ranked[position].score or 0.0) - middle))
    chosen = sorted(nearest[:typical])
    maps |= {position: left[position] for position in chosen}
    for position, small in maps.items():
        if small is None and read_map is not None and (read := read_map(ranked[position])) is not None:
            maps[position] = shrink(read, MAP_SIDE)
            levels.append(_levels(ranked[position], read))
    there = {position: small for position, small in maps.items() if small is not None}
    return Gathered(ranked, bad, shown, chosen, there, _scale(levels))


def _levels(record: Detection, whole: npt.NDArray[np.floating]) -> tuple[bool, float, float, float]:
    return (
        record.anomalous is True,
        float(record.score or 0.0),
        float(np.nanmean(whole)),
        float(np.nanmax(whole)),
    )


def _middle(ranked: list[Detection]) -> float:
    scores = [record.score for record in ranked if record.anomalous is not True and record.score is not None]
    return float(np.median(scores)) if scores else 0.0


def _scale(levels: list[tuple[bool, float, float, float]]) -> Scale | None:
    """Colours begin at what a typical normal item reaches and end where strong finds lie.

    The upper end is the 90 % quantile of the peaks of anomalous items, so that one extreme item does not
    bleach all others; it is never nearer to the lower end than a normal item's own range, so that a run
    without anomalies does not paint noise in alarming colours.
    """
    if not levels:
        return None
    table = np.array(levels, dtype=np.float64)
    off = table[:, 0] > 0
    calm = table[~off]
    if not len(calm):
        calm = table
    elif not off.any():
        calm = calm[calm[:, 1] <= np.median(calm[:, 1])]
    low, mean = float(np.median(calm[:, 3])), float(np.median(calm[:, 2]))
    if off.all():
        low = mean
    peaks = table[off, 3] if off.any() else table[:, 3]
    high = max(float(np.quantile(peaks, 0.9)), low + (low - mean))
    return Scale(low, high if high > low else low + (abs(low) or 1.0))
