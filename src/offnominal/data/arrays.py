"""Images that are in memory already."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource
from offnominal.data.limits import Limits, RefusalError
from offnominal.data.values import finite, known_numbers


def split_array(array: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Split an array into images.

    (H, W) is one image and (N, H, W, C) are N. Three axes are one image (H, W, C) where the last has at most
    four entries, else N grey images (N, H, W); put an image with more channels into a list.
    """
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] <= 4):
        return [array]
    if array.ndim in (3, 4):
        return list(array)
    raise BadSource(
        f"an array of shape {array.shape} is no image; give (H, W), (H, W, C), (N, H, W) or (N, H, W, C)"
    )


def as_image(value: Any, limits: Limits) -> npt.NDArray[Any]:
    """Bring an array or what converts to one to (H, W, C) ``uint8``, ``uint16`` or finite ``float32``."""
    array = np.asarray(value)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3:
        raise RefusalError(f"has shape {array.shape}", "give each image as (H, W) or (H, W, C)")
    limits.check_shape(*array.shape)
    return finite(known_numbers(array))
