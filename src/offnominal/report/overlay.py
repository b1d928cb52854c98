"""A map in colour, and laid over its picture.

The colours run from deep violet over red and orange to pale yellow: their lightness rises all the way, so
the order is kept for colour-blind readers and in grey print. What lies at the low end is transparent, so
that normal places show the picture as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import numpy.typing as npt

from offnominal.core.detections import Region
from offnominal.report.picture import display, resize

Pixels = npt.NDArray[np.uint8]

STOPS = (
    (58, 9, 99),
    (106, 23, 110),
    (155, 38, 99),
    (200, 63, 74),
    (233, 100, 43),
    (249, 151, 17),
    (247, 208, 60),
    (252, 255, 164),
)
"""Evenly spaced sRGB colours, from low to high."""

FADE = 0.25
"""Over this first part of the range the colours become opaque."""


@cache
def palette() -> Pixels:
    """Colours (256, 4) RGBA for levels 0 … 255; level 0 is transparent."""
    level = np.linspace(0.0, 1.0, 256)
    stops = np.array(STOPS, dtype=float)
    places = np.linspace(0.0, 1.0, len(stops))
    channels = [np.interp(level, places, stops[:, channel]) for channel in range(3)]
    part = np.clip(level / FADE, 0.0, 1.0)
    alpha = 255 * part * part * (3 - 2 * part)
    table: Pixels = np.rint(np.stack([*channels, alpha], axis=1)).astype(np.uint8)
    table.setflags(write=False)
    return table


def levels(map: npt.NDArray[np.floating], low: float, high: float) -> Pixels:
    """Place map values on the scale from ``low`` (0) to ``high`` (255); NaN goes to 0.

    Parameters
    ----------
    map : ndarray (H, W), float
    low, high : float
        Ends of the scale; values outside are cut off. Where ``high <= low``, all above ``low`` is 255.
    """
    values = np.nan_to_num(np.asarray(map, dtype=np.float64), nan=-np.inf)
    if not high > low:
        return np.where(values > low, 255, 0).astype(np.uint8)
    return np.rint(255 * np.clip((values - low) / (high - low), 0.0, 1.0)).astype(np.uint8)


def heat_map(map: npt.NDArray[np.floating], low: float, high: float) -> Pixels:
    """Return a map in colour, transparent at its low end.

    Parameters
    ----------
    map : ndarray (H, W), float
    low, high : float
        Ends of the colour scale; give the same to all items whose colours are to be compared.

    Returns
    -------
    ndarray (H, W, 4) uint8
        RGBA, alpha not multiplied into the colours.
    """
    return palette()[levels(map, low, high)]


def overlay(
    image: npt.NDArray[np.generic],
    map: npt.NDArray[np.floating],
    *,
    low: float | None = None,
    high: float | None = None,
    opacity: float = 0.6,
    regions: Iterable[Region] = (),
) -> Pixels:
    """Lay a map in colour over its picture.

    Parameters
    ----------
    image : ndarray (H, W) or (H, W, C), any real type
        Brought to RGB by `offnominal.report.picture.display`.
    map : ndarray (h, w), float
        Enlarged to the picture's size where the two differ.
    low, high : float, optional
        Ends of the colour scale. By default the map's median and maximum: colours then mean something
        within this picture only.
    opacity : float in [0, 1], default 0.6
        How much of the picture the strongest colours cover.
    regions : iterable of Region, optional
        Regions of kind ``box`` are framed.

    Returns
    -------
    ndarray (H, W, 3) uint8
    """
    picture = display(image).astype(np.float32)
    height, width = picture.shape[:2]
    values = np.nan_to_num(np.asarray(map, dtype=np.float32))
    low = float(np.median(values)) if low is None else low
    high = float(values.max()) if high is None else high
    if values.shape != (height, width):
        values = resize(values, (height, width))
    colour = heat_map(values, low, high).astype(np.float32)
    part = colour[..., 3:] / 255 * float(np.clip(opacity, 0.0, 1.0))
    mixed = np.rint(picture + part * (colour[..., :3] - picture)).astype(np.uint8)
    for region in regions:
        if region.kind == "box":
            frame(mixed, region.where)
    return mixed


def frame(picture: Pixels, box: Iterable[float]) -> None:
    """Draw a white frame with a dark rim around a box, in place; seen on any ground."""
    height, width = picture.shape[:2]
    thick = max(1, round(max(height, width) / 300))
    x0, y0, x1, y1 = (round(side) for side in box)
    for grow, colour in ((2 * thick, 0), (thick, 255)):
        left, top = max(x0 - grow, 0), max(y0 - grow, 0)
        right, bottom = min(x1 + grow, width), min(y1 + grow, height)
        picture[top : top + thick, left:right] = colour
        picture[bottom - thick : bottom, left:right] = colour
        picture[top:bottom, left : left + thick] = colour
        picture[top:bottom, right - thick : right] = colour
