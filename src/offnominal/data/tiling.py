"""Large images in overlapping tiles, and maps of tiles put together without seams."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Box = tuple[int, int, int, int]

_FLOOR = 1e-4


def tiles(height: int, width: int, size: int, overlap: float = 0.25) -> list[Box]:
    """Boxes of overlapping square tiles that cover an image.

    Parameters
    ----------
    height, width : int
        The image, in pixels.
    size : int
        Side of a tile, in pixels; along an axis that is shorter, tiles are as short.
    overlap : float, default 0.25
        Least share of a tile's side that neighbours have in common, 0 ≤ overlap < 1.

    Returns
    -------
    list of (y0, x0, y1, x1)
        Half-open, row by row, spread evenly; every pixel is in at least one.
    """
    if height < 1 or width < 1 or size < 1:
        raise ValueError(f"height, width and size must be at least 1, got {height}, {width} and {size}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is a share of the tile, 0 ≤ overlap < 1, got {overlap}")
    return [
        (y, x, min(y + size, height), min(x + size, width))
        for y in _starts(height, size, overlap)
        for x in _starts(width, size, overlap)
    ]


def _starts(length: int, size: int, overlap: float) -> list[int]:
    if length <= size:
        return [0]
    stride = max(1, math.floor(size * (1 - overlap)))
    count = 1 + math.ceil((length - size) / stride)
    return [round(number * (length - size) / (count - 1)) for number in range(count)]


def blend(
    maps: Iterable[npt.NDArray[Any]], boxes: Sequence[Box], shape: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Put maps of tiles together, each fading towards its edges, so that seams do not show.

    Parameters
    ----------
    maps : iterable of ndarray (y1 − y0, x1 − x0)
        One a box; may be made one after the other.
    boxes : sequence of (y0, x0, y1, x1)
    shape : (height, width)

    Returns
    -------
    ndarray (height, width) of float32
        Weighted mean of the maps; where they agree, that value.

    Raises
    ------
    ValueError
        A map is not of its box's size, or a pixel is in no box.
    """
    height, width = shape
    total = np.zeros(shape, dtype=np.float32)
    weight = np.zeros(shape, dtype=np.float32)
    for found, (y0, x0, y1, x1) in zip(maps, boxes, strict=True):
        if found.shape != (y1 - y0, x1 - x0):
            raise ValueError(f"a map of shape {found.shape} for the box {(y0, x0, y1, x1)}")
        rows = _window(y1 - y0, y0 > 0, y1 < height)
        columns = _window(x1 - x0, x0 > 0, x1 < width)
        window = rows[:, None] * columns[None]
        total[y0:y1, x0:x1] += window * found
        weight[y0:y1, x0:x1] += window
    if not weight.all():
        raise ValueError(f"{int((weight == 0).sum())} pixels are in no tile")
    total /= weight
    return total


@lru_cache(maxsize=64)
def _window(length: int, fade_in: bool, fade_out: bool) -> npt.NDArray[np.float32]:
    """Weights along an axis: a squared sine, flat on the sides that lie on the image's own border."""
    places = (np.arange(length) + 0.5) / length
    wave = np.sin(np.pi * places) ** 2
    if not fade_in:
        wave[places < 0.5] = 1.0
    if not fade_out:
        wave[places >= 0.5] = 1.0
    window: npt.NDArray[np.float32] = np.maximum(wave, _FLOOR).astype(np.float32)
    return window
