"""PNG with 16 bits a channel in colour, of which Pillow would keep eight.

The row filters of PNG (ISO/IEC 15948, clause 9) make a byte depend on the ones left, above and above left.
Bytes on one anti-diagonal do not depend on each other, so they are undone together, for all rows at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.data.limits import AGAIN, RefusalError

_BAND = 1024


def decode_deep_colour(
    packed: Sequence[bytes], height: int, width: int, channels: int, transparent: bytes | None = None
) -> npt.NDArray[np.uint16]:
    """Decode the data of a non-interlaced 16-bit PNG.

    Parameters
    ----------
    packed : sequence of bytes
        Bodies of the IDAT chunks, in order.
    height, width, channels : int
        From the header.
    transparent : bytes, optional
        Body of tRNS: one colour that is transparent; it becomes an alpha channel.

    Returns
    -------
    ndarray (H, W, C) of uint16
    """
    step = 2 * channels
    stride = 1 + step * width
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(b"".join(packed), height * stride)
    except zlib.error as error:
        raise RefusalError(f"is damaged ({error})", AGAIN) from None
    if len(raw) < height * stride:
        raise RefusalError("is truncated", AGAIN)
    lines = np.frombuffer(raw, dtype=np.uint8).reshape(height, stride)
    filters = lines[:, 0]
    if filters.max(initial=0) > 4:
        raise RefusalError(f"is damaged (PNG filter {int(filters.max())})", AGAIN)
    plain = _unfilter(lines[:, 1:].reshape(height, width, step), filters)
    image = plain.reshape(height, width, channels, 2).view(">u2")[..., 0].astype(np.uint16)
    if transparent is not None and len(transparent) >= step:
        key = np.frombuffer(transparent[:step], dtype=">u2")
        alpha = np.where((image == key).all(axis=2), 0, 65535).astype(np.uint16)
        image = np.concatenate([image, alpha[..., None]], axis=2)
    return image


def _unfilter(lines: npt.NDArray[np.uint8], filters: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Undo the filters of rows (H, W, bytes a pixel)."""
    height, width, step = lines.shape
    if not (filters > 2).any():  # none, sub and up: sums along one axis
        return _unfilter_sums(lines, filters)
    plain = np.empty(lines.shape, dtype=np.uint8)
    above = np.zeros((width, step), dtype=np.int16)
    for start in range(0, height, _BAND):
        plain[start : start + _BAND] = _unfilter_band(
            lines[start : start + _BAND], filters[start : start + _BAND], above
        )
        above = plain[min(start + _BAND, height) - 1].astype(np.int16)
    return plain


def _unfilter_band(
    lines: npt.NDArray[np.uint8], filters: npt.NDArray[np.uint8], above: npt.NDArray[np.int16]
) -> npt.NDArray[np.uint8]:
    """Undo the filters of a band of rows below the finished row ``above``.

    Row r, counted from 1, is shifted right by r: an anti-diagonal is a column of the skewed array, and the
    places before a row's first pixel hold the zeros the standard asks for.
    """
    height, width, step = lines.shape
    skewed = np.zeros((width + height, height + 1, step), dtype=np.int16)
    skewed[:width, 0] = above
    for y in range(height):
        skewed[y + 1 : y + 1 + width, y + 1] = lines[y]
    kinds = filters[:, None]
    nothing = np.zeros_like(skewed[0])
    for column in range(1, width + height):
        first, last = max(1, column - width + 1), min(height, column)
        here, over = slice(first, last + 1), slice(first - 1, last)
        before = skewed[column - 1]
        earlier = skewed[column - 2] if column > 1 else nothing
        guess = _predict(kinds[over], before[here], before[over], earlier[over])
        skewed[column, here] = (skewed[column, here] + guess) & 255
    return np.stack([skewed[y + 1 : y + 1 + width, y + 1] for y in range(height)]).astype(np.uint8)


def _predict(kinds: npt.NDArray[Any], left: Any, up: Any, corner: Any) -> npt.NDArray[np.int16]:
    rough = left + up - corner
    to_left, to_up, to_corner = np.abs(rough - left), np.abs(rough - up), np.abs(rough - corner)
    paeth = np.where(
        (to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner)
    )
    chosen = np.where(kinds == 4, paeth, np.where(kinds == 3, (left + up) >> 1, 0))
    return np.where(kinds == 1, left, np.where(kinds == 2, up, chosen)).astype(np.int16)


def _unfilter_sums(lines: npt.NDArray[np.uint8], filters: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    plain = np.empty_like(lines)
    above = np.zeros_like(lines[0])
    for y, kind in enumerate(filters):
        if kind == 1:
            plain[y] = np.cumsum(lines[y], axis=0, dtype=np.uint8)
        else:
            plain[y] = lines[y] + above if kind == 2 else lines[y]
        above = plain[y]
    return plain
