"""PNG: chunks are walked here, pixels come from Pillow, or from `png16` where Pillow would halve them."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy.typing as npt

from offnominal.data.decode_pillow import flatten_alpha, to_array
from offnominal.data.limits import AGAIN, PAGES, Limits, RefusalError
from offnominal.data.orientation import exif_orientation, upright
from offnominal.data.png16 import decode_deep_colour

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_WANTED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def read(data: bytes, limits: Limits) -> npt.NDArray[Any]:
    """Decode a PNG file held in memory to ``uint8`` or ``uint16`` (H, W, 1 or 3)."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise RefusalError("is truncated", AGAIN)
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if colour not in _CHANNELS:
        raise RefusalError(f"is damaged (PNG colour type {colour})", AGAIN)
    limits.check_shape(height, width, _CHANNELS[colour])
    pieces, packed, orientation, transparent = _walk(data)
    if bits == 16 and colour in (2, 4, 6):
        if interlaced:
            raise RefusalError("is an interlaced PNG of 16 bits a channel", "save it without interlacing")
        image = decode_deep_colour(
            packed, height, width, _CHANNELS[colour], transparent if colour == 2 else None
        )
        if colour != 2 or transparent is not None:
            image = flatten_alpha(image)
        return upright(image, orientation)
    from PIL import PngImagePlugin

    return upright(to_array(PngImagePlugin.PngImageFile(io.BytesIO(b"".join(pieces)))), orientation)


def _walk(data: bytes) -> tuple[list[bytes], list[bytes], int, bytes | None]:
    """Pieces that make the picture alone, compressed parts, orientation and transparent colour."""
    pieces = [_SIGNATURE]
    packed: list[bytes] = []
    orientation, transparent = 1, None
    place = len(_SIGNATURE)
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        name = data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + length]
        if name == b"acTL" and len(body) >= 4 and (frames := struct.unpack_from(">I", body)[0]) > 1:
            raise RefusalError(
                f"is an animation of {frames} frames, and an item is one image",
                PAGES,
            )
        if name == b"eXIf":
            orientation = exif_orientation(body)
        elif name == b"tRNS":
            transparent = body
        elif name == b"IDAT":
            packed.append(body)
        if name in _WANTED:
            pieces.append(data[place : place + 12 + length])
        if name == b"IEND":
            return pieces, packed, orientation, transparent
        place += 12 + length
    raise RefusalError("is truncated", AGAIN)
