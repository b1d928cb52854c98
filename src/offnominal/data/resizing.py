"""Antialiased resizing of images to model size, and of maps to image size."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_BLOCK = 1536  # columns of one product: what is gathered then stays in the cache


def resize(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize an image with a bilinear filter that widens with the reduction, so that nothing aliases.

    Parameters
    ----------
    image : ndarray (H, W, C)
        Any real type, any number of channels.
    size : (height, width)

    Returns
    -------
    ndarray (height, width, C) of float32
        In the image's own range, not rounded: rounding to whole grey levels changes the deep features of
        smooth areas by a tenth.

    Notes
    -----
    The filter is separable: a sparse matrix for each axis.
    """
    height, width, channels = image.shape
    if (height, width) == tuple(size):
        return np.array(image, dtype=np.float32, order="C")
    shorter = _along_first(image.reshape(height, -1), size[0]).reshape(size[0], width, channels)
    turned = np.ascontiguousarray(shorter.transpose(1, 0, 2)).reshape(width, -1)
    narrow = _along_first(turned, size[1]).reshape(size[1], size[0], channels)
    return np.ascontiguousarray(narrow.transpose(1, 0, 2))


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


def _along_first(values: npt.NDArray[Any], target: int) -> npt.NDArray[np.float32]:
    """Resize the first axis of (n, m)."""
    if len(values) == target:
        return np.asarray(values, dtype=np.float32)
    matrix = _triangles(len(values), target)
    result = np.empty((target, values.shape[1]), np.float32)
    for first in range(0, values.shape[1], _BLOCK):
        block = values[:, first : first + _BLOCK].astype(np.float32)
        result[:, first : first + _BLOCK] = matrix @ block
    return result


@lru_cache(maxsize=64)
def _triangles(source: int, target: int) -> csr_array:
    """Matrix (target, source) of the triangle filter: two source pixels wide, or two target pixels."""
    from scipy.sparse import csr_array

    reach = max(source / target, 1.0)
    centres = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(centres - reach).astype(int) + 1
    columns = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)
    weights = np.clip(1 - np.abs(columns - centres[:, None]) / reach, 0, None)
    weights[(columns < 0) | (columns >= source)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    rows, places = np.nonzero(weights)
    held = (weights[rows, places].astype(np.float32), (rows, columns[rows, places]))
    return csr_array(held, shape=(target, source))
