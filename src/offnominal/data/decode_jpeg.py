"""JPEG: size and orientation from the markers, pixels from simplejpeg where it is installed, else Pillow."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.data.decode_pillow import to_array
from offnominal.data.limits import AGAIN, Limits, RefusalError
from offnominal.data.orientation import exif_orientation, upright

_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


@dataclass(slots=True)
class _Header:
    height: int = 0
    width: int = 0
    channels: int = 0
    bits: int = 8
    adobe: bool = False
    orientation: int = 1


def read(data: bytes, limits: Limits) -> npt.NDArray[Any]:
    """Decode a JPEG file held in memory to ``uint8`` (H, W, 1 or 3)."""
    header, bare = _parse(data)
    limits.check_shape(header.height, header.width, header.channels)
    if header.bits != 8:
        raise RefusalError(f"is a JPEG of {header.bits} bits a sample", "save it as PNG or TIFF")
    image = _fast(bare, header)
    if image is None:
        from PIL import JpegImagePlugin

        image = to_array(JpegImagePlugin.JpegImageFile(io.BytesIO(bare)))
    return upright(image, header.orientation)


def _fast(data: bytes, header: _Header) -> npt.NDArray[np.uint8] | None:
    """Decode grey and colour files without an Adobe marker, which may ask for another colour transform."""
    if header.adobe or header.channels not in (1, 3):
        return None
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None
    try:
        pixels: npt.NDArray[np.uint8] = decode_jpeg(
            data, colorspace="RGB" if header.channels == 3 else "GRAY"
        )
    except ValueError:
        return None  # Pillow says what is wrong with it, or can read it
    return pixels


def _parse(data: bytes) -> tuple[_Header, bytes]:
    """Walk the markers up to the scan; also return the file without its metadata (APP1)."""
    header = _Header()
    pieces = [data[:2]]
    place = 2
    while True:
        if place + 4 > len(data):
            raise RefusalError("is truncated", AGAIN)
        if data[place] != 0xFF:
            raise RefusalError("is damaged (a JPEG marker is missing)", AGAIN)
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker in _ALONE:
            place += 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        body = data[place + 4 : place + 2 + length]
        if marker in _FRAMES and len(body) >= 6:
            header.bits, header.height, header.width, header.channels = struct.unpack_from(">BHHB", body)
        elif marker == 0xEE and body.startswith(b"Adobe"):
            header.adobe = True
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            header.orientation = exif_orientation(body)
        if marker == 0xDA:
            pieces.append(data[place:])
            return header, b"".join(pieces)
        if marker != 0xE1:
            pieces.append(data[place : place + 2 + length])
        place += 2 + max(length, 2)
