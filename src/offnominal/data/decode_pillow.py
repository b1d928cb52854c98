"""What Pillow decodes, brought to (H, W, C)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.data.limits import PAGES, Limits, RefusalError
from offnominal.data.orientation import exif_orientation, upright

if TYPE_CHECKING:
    from PIL.Image import Image


def read(data: bytes, kind: str, limits: Limits) -> npt.NDArray[Any]:
    """Decode a WebP, BMP or GIF file held in memory."""
    image = _open(data, kind)
    limits.check_shape(image.height, image.width)
    if (frames := int(getattr(image, "n_frames", 1))) > 1:
        raise RefusalError(f"is an animation of {frames} frames, and an item is one image", PAGES)
    orientation = exif_orientation(image.info.get("exif", b""))
    return upright(to_array(image), orientation)


def _open(data: bytes, kind: str) -> Image:
    from PIL import BmpImagePlugin, GifImagePlugin, WebPImagePlugin

    plugins: dict[str, Any] = {
        "webp": WebPImagePlugin.WebPImageFile,
        "bmp": BmpImagePlugin.BmpImageFile,
        "gif": GifImagePlugin.GifImageFile,
    }
    opened: Image = plugins[kind](io.BytesIO(data))
    return opened


def to_array(image: Image) -> npt.NDArray[Any]:
    """Decode an opened Pillow image of any mode to (H, W, C) ``uint8``, ``uint16`` or ``float32``."""
    mode = image.mode
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if mode == "I":
        values = np.asarray(image)
        small = values.min() >= 0 and values.max() <= 65535
        return values.astype(np.uint16 if small else np.float32)[..., None]
    if mode == "F":
        return np.asarray(image, dtype=np.float32)[..., None]
    if "transparency" in image.info or mode in ("PA", "La", "RGBa"):
        grey = mode in ("1", "L", "LA", "La")
        image = image.convert("LA" if mode == "La" else "RGBA")
        array = np.asarray(image)
        if grey and image.mode == "RGBA":
            array = array[..., [0, 3]]
        return flatten_alpha(array)
    if mode == "1":
        image = image.convert("L")
    elif mode not in ("L", "RGB", "LA", "RGBA"):
        image = image.convert("RGB")
    array = np.asarray(image)
    if array.ndim == 2:
        return array[..., None]
    return flatten_alpha(array) if image.mode in ("LA", "RGBA") else array


def flatten_alpha(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Composite unsigned integers whose last channel is alpha over mid grey; opaque alpha is dropped."""
    colour, alpha = image[..., :-1], image[..., -1:]
    top = int(np.iinfo(image.dtype).max)
    if alpha.min() == top:
        return np.ascontiguousarray(colour)
    share = alpha.astype(np.float32) / top
    grey = (top + 1) // 2
    return np.rint(colour * share + grey * (1 - share)).astype(image.dtype)
