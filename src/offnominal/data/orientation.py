"""The orientation a camera noted (EXIF tag 274), read and undone."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

_ORIENTATION = 274


def exif_orientation(block: bytes) -> int:
    """Orientation 1…8 of an EXIF block; 1 (upright) where it says none or is damaged."""
    data = block[6:] if block.startswith(b"Exif\0\0") else block
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        for entry in range(min(count, 512)):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", data, start + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def upright(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn an image (H, W, C) as its orientation tag asks; 5…8 swap height and width."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
