"""From a grid of patch scores to a map, as two small matrix products.

Bilinear up-sampling and Gaussian smoothing are linear and separable, so together they are
``rows @ grid @ columns.T`` with matrices that depend on sizes only; at 256² that costs a twentieth of
filtering the up-sampled map.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

_ONE_THREAD = 2**18  # multiplications up to which OpenBLAS does not share a product among threads


@lru_cache(maxsize=256)
def enlarge(source: int, target: int) -> Matrix:
    """Matrix (target, source) of bilinear interpolation with half-pixel centres."""
    centres = (np.arange(target) + 0.5) * (source / target) - 0.5
    low = np.clip(np.floor(centres), 0, source - 1).astype(int)
    high = np.minimum(low + 1, source - 1)
    part = np.clip(centres - low, 0.0, 1.0)
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target), low), 1 - part)
    np.add.at(matrix, (np.arange(target), high), part)
    return matrix.astype(np.float32)


@lru_cache(maxsize=64)
def smooth(size: int, sigma: float) -> Matrix:
    """Matrix (size, size) of a Gaussian filter that mirrors at the ends, cut at four sigma."""
    if sigma <= 0:
        return np.eye(size, dtype=np.float32)
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    places = np.arange(size)[:, None] + offsets[None]
    period = 2 * size
    places = places % period
    places = np.where(places < size, places, period - 1 - places)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.repeat(np.arange(size), len(offsets)), places.ravel()), np.tile(kernel, size))
    return matrix.astype(np.float32)


@lru_cache(maxsize=256)
def operator(grid: int, model: int, target: int, sigma: float) -> Matrix:
    """Matrix (target, grid): enlarge to the model's size, smooth there, resize to the target's.

    Parameters
    ----------
    grid : int
        Patches along the axis.
    model : int
        Pixels along the axis at model size, where ``sigma`` is measured.
    target : int
        Pixels along the axis of the map asked for.
    sigma : float
        Standard deviation of the smoothing, in model pixels.
    """
    at_model = smooth(model, sigma) @ enlarge(grid, model)
    return at_model if target == model else enlarge(model, target) @ at_model


def map_from_grid(
    grid: Matrix, model: tuple[int, int], target: tuple[int, int], sigma: float
) -> npt.NDArray[np.float32]:
    """Return the map (H, W) of a grid (h, w) of patch scores.

    Parameters
    ----------
    grid : ndarray (h, w) float32
    model, target : (height, width)
        Size the model works at, and size of the map asked for.
    sigma : float
        Standard deviation of the smoothing in model pixels; 0 for none.
    """
    rows = operator(grid.shape[0], model[0], target[0], sigma)
    columns = operator(grid.shape[1], model[1], target[1], sigma)
    return _product(rows @ np.asarray(grid, dtype=np.float32), columns.T)


def _product(left: Matrix, right: Matrix) -> npt.NDArray[np.float32]:
    """Matrix product in blocks of rows small enough for BLAS to stay in this thread.

    Waking its threads for a product this thin costs more than the product, most of all beside a busy encoder.
    """
    (height, inner), width = left.shape, right.shape[1]
    step = max(1, _ONE_THREAD // (inner * width))
    whole = height // step * step
    product = np.empty((height, width), np.float32)
    np.matmul(left[:whole].reshape(-1, step, inner), right, out=product[:whole].reshape(-1, step, width))
    np.matmul(left[whole:], right, out=product[whole:])
    return product
