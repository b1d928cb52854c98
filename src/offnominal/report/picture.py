"""Pictures for a page: any pixel type to 8-bit RGB, small, and as data URIs of bounded size."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

QUALITIES = (82, 68, 50)
LEVELS = 64
"""Colour steps of an embedded map: as many as the eye tells apart, and a third of the bytes of 256."""


def display(image: npt.NDArray[np.generic]) -> Pixels:
    """Bring an image to 8-bit RGB for looking at, never for measuring.

    Parameters
    ----------
    image : ndarray (H, W) or (H, W, C), any real type
        8-bit values are kept. Others (16-bit, float) are stretched from their 0.5 to their 99.5 percentile,
        NaN to black. One or two channels show the first as grey; of four or more the first three are shown.

    Returns
    -------
    ndarray (H, W, 3) uint8

    Raises
    ------
    ValueError
        The array is not an image.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(f"an image is (H, W) or (H, W, C), not {np.shape(image)}")
    pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    if pixels.dtype == np.bool_:
        return np.where(pixels, np.uint8(255), np.uint8(0))
    values = np.nan_to_num(pixels.astype(np.float64), nan=-np.inf)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = np.percentile(finite, (0.5, 99.5))
    if not high > low:
        return np.where(np.isneginf(values), 0, 128).astype(np.uint8)
    stretched = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(np.rint(255 * stretched), dtype=np.uint8)


def resize(array: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Resize to (height, width): bilinear, averaging when smaller.

    Parameters
    ----------
    array : ndarray (H, W) float32, or (H, W, 3) uint8
    """
    from PIL import Image

    height, width = size
    return np.array(Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR))


def fitted(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """(height, width) of the same form whose longer side is at most ``side``."""
    height, width = shape[:2]
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(map: npt.NDArray[np.floating], side: int) -> npt.NDArray[np.float32]:
    """A map whose longer side is at most ``side``, with its peaks kept.

    Blocks are reduced by their maximum, so a small hot place never fades away in the small picture.
    """
    values = np.nan_to_num(np.asarray(map, dtype=np.float32))
    height, width = values.shape
    target = fitted(values.shape, side)
    if target == (height, width):
        return values
    rows = np.linspace(0, height, target[0], endpoint=False).astype(int)
    columns = np.linspace(0, width, target[1], endpoint=False).astype(int)
    return np.maximum.reduceat(np.maximum.reduceat(values, rows, axis=0), columns, axis=1)


def picture_uri(pixels: Pixels, side: int, bytes_at_most: int) -> str:
    """Return RGB pixels (H, W, 3) as a WebP data URI of bounded size.

    Parameters
    ----------
    side : int
        Longest side of the picture; larger ones are reduced.
    bytes_at_most : int
        Quality, then size, give way until the picture is no larger.
    """
    while True:
        small = resize(pixels, fitted(pixels.shape, side))
        for quality in QUALITIES:
            data = _encoded(small, "WEBP", quality=quality, method=4)
            if len(data) <= bytes_at_most or side <= 32:
                return f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
            if len(data) > 4 * bytes_at_most:
                break
        side = side * 3 // 4


def heat_uri(levels: Pixels, palette: Pixels) -> str:
    """Return map levels (h, w) of 0 … 255 as a PNG data URI with the colours (256, 4) and their alpha."""
    from PIL import Image

    steps = np.rint(levels.astype(np.float32) * ((LEVELS - 1) / 255)).astype(np.uint8)
    picture = Image.fromarray(steps)
    colours = palette[np.rint(np.linspace(0, 255, LEVELS)).astype(int)]
    picture.putpalette(np.ascontiguousarray(colours[:, :3]).tobytes(), "RGB")
    data = BytesIO()
    picture.save(data, "PNG", optimize=True, transparency=colours[:, 3].tobytes())
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _encoded(pixels: Pixels, form: str, **options: Any) -> bytes:
    from PIL import Image

    data = BytesIO()
    Image.fromarray(pixels).save(data, form, **options)
    return data.getvalue()
