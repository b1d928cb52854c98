"""Where the scores lie, as shapes of an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offnominal.report.table import number

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 30, 64
STRIP = 400
"""Up to so many items, each is also a stroke under the axis: single ones vanish in a share."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle: where it stands and which state it counts."""

    x: float
    y: float
    width: float
    height: float
    state: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shapes in the coordinates of a ``WIDTH`` × ``HEIGHT`` view box.

    Attributes
    ----------
    bars : list of Bar
        New items, stacked by state, as shares of all new items.
    outline : str
        Points of a polyline around the shares of calibration normals; empty where there are none.
    strokes : list of (x, state)
        One for each new item, where there are few.
    threshold : float or None
        Place of the threshold.
    ticks, shares : list of (place, text)
        Of the horizontal and of the vertical axis.
    cut : str
        Score from which on the last bar holds all; empty where nothing is cut.
    width, height, left, right, top, bottom : int
        The view box and its plot area.
    """

    bars: list[Bar]
    outline: str
    strokes: list[tuple[float, str]]
    threshold: float | None
    ticks: list[tuple[float, str]]
    shares: list[tuple[float, str]]
    cut: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def histogram(
    scores: Sequence[float],
    states: Sequence[str],
    *,
    calibration: Sequence[float] = (),
    threshold: float | None = None,
) -> Histogram | None:
    """Lay out a histogram.

    Parameters
    ----------
    scores : n floats
        Of new items.
    states : n of {"normal", "none", "anomalous"}
        What each was judged to be.
    calibration : sequence of float
        Scores of the normals the decision rests on.
    threshold : float, optional
        Score above which items are anomalous.

    Returns
    -------
    Histogram or None
        None where there are no scores.
    """
    new = np.asarray(scores, dtype=np.float64)
    normals = np.asarray(calibration, dtype=np.float64)
    normals = normals[np.isfinite(normals)]
    if not len(new):
        return None
    marks = [] if threshold is None or not math.isfinite(threshold) else [threshold]
    every = np.concatenate([new, normals, marks])
    low, high, cut = _range(every, marks)
    edges = np.linspace(low, high, min(48, max(12, round(2 * len(every) ** 0.5))) + 1)

    def across(value: float) -> float:
        part = (min(max(value, low), high) - low) / (high - low)
        return round(float(LEFT + part * (WIDTH - LEFT - RIGHT)), 2)

    labels = np.asarray(states)
    layers = {
        name: _counts(new[labels == name], edges) / len(new) for name in ("normal", "none", "anomalous")
    }
    reference = _counts(normals, edges) / max(1, len(normals))
    tallest = max(float(np.sum(list(layers.values()), axis=0).max()), float(reference.max()))
    step = _step(tallest, 3)
    top = step * math.ceil(tallest / step - 1e-9)

    def up(share: float) -> float:
        return round(float(HEIGHT - BOTTOM - share / top * (HEIGHT - TOP - BOTTOM)), 2)

    bars = []
    base = np.zeros(len(edges) - 1)
    for name, shares in layers.items():
        for place in np.flatnonzero(shares):
            x0, x1 = across(edges[place]), across(edges[place + 1])
            y0, y1 = up(base[place]), up(base[place] + shares[place])
            bars.append(Bar(x0, y1, round(max(1.0, x1 - x0 - 1), 2), round(max(y0 - y1, 1.0), 2), name))
        base = base + shares
    return Histogram(
        bars=bars,
        outline=_outline(reference, edges, across, up) if len(normals) else "",
        strokes=[(across(score), name) for score, name in zip(new, states, strict=True)]
        if len(new) <= STRIP
        else [],
        threshold=across(marks[0]) if marks else None,
        ticks=[(across(value), f"{value:g}") for value in _ticks(low, high)],
        shares=[
            (up(share), f"{100 * share:g} %") for share in np.round(np.arange(0, top + step / 2, step), 6)
        ],
        cut=number(high) if cut else "",
    )


def _range(every: npt.NDArray[np.float64], marks: list[float]) -> tuple[float, float, bool]:
    """Range of the axis; a far tail goes into the last bar, so that it does not squeeze the rest."""
    low, high = float(every.min()), float(every.max())
    start, near = np.quantile(every, (0.02, 0.9))
    limit = max(float(near + 4 * (near - start)), *(mark + 0.5 * (mark - low) for mark in marks), low)
    cut = limit < high and near > start
    high = limit if cut else high
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * size or size < 1e-30:
        around = 0.5 * size if size > 1e-30 else 0.5
        low, high = low - around, high + around
    return low, high, cut


def _counts(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].astype(np.float64)


def _outline(
    shares: npt.NDArray[np.float64],
    edges: npt.NDArray[np.float64],
    across: Callable[[float], float],
    up: Callable[[float], float],
) -> str:
    points = [(across(edges[0]), up(0))]
    for place, share in enumerate(shares):
        points += [(across(edges[place]), up(share)), (across(edges[place + 1]), up(share))]
    points.append((across(edges[-1]), up(0)))
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _step(span: float, wanted: int) -> float:
    raw = span / wanted
    size = 10.0 ** math.floor(math.log10(raw))
    return next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw * (1 - 1e-9))


def _ticks(low: float, high: float) -> list[float]:
    step = _step(high - low, 6)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{place * step:.10g}") for place in range(first, last + 1)]
