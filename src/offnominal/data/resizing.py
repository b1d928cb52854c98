"""Antialiased resizing of images to model size, and of maps to image size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def resize(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Resize an image with a bilinear filter that widens with the reduction, so that nothing aliases.

    Parameters
    ----------
    image : ndarray (H, W, C)
        Any real type, any number of channels.
    size : (height, width)

    Returns
    -------
    ndarray (height, width, C)
        ``uint8`` where the image is ``uint8`` (rounded), else ``float32`` in the image's own range.
    """
    from PIL import Image

    height, width = size
    whole = image.dtype == np.uint8
    if not whole:
        image = np.asarray(image, dtype=np.float32)
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    if whole and image.shape[2] == 3:
        picture = Image.fromarray(np.ascontiguousarray(image))
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    result = np.empty((height, width, image.shape[2]), dtype=image.dtype)
    for channel in range(image.shape[2]):
        picture = Image.fromarray(np.ascontiguousarray(image[..., channel]))
        result[..., channel] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return result


def resize_map(anomaly_map: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize a map (H, W) bilinearly, with half-pixel centres; antialiased where it shrinks.

    Parameters
    ----------
    anomaly_map : ndarray (H, W)
    size : (height, width)

    Returns
    -------
    ndarray (height, width) of float32
    """
    return np.ascontiguousarray(resize(np.asarray(anomaly_map, dtype=np.float32)[..., None], size)[..., 0])
