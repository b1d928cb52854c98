"""Phase correlation as matrix products: the Fourier transforms of a fixed size are constants.

Every runtime multiplies matrices, few transform; only the shifts that are allowed are transformed back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.image.export.graph import Graph, Value

Matrix = npt.NDArray[np.float64]


def aligned(graph: Graph, reference: npt.NDArray[np.float32], reach: int) -> Value:
    """Pixels (n, S, S, 3) shifted onto a reference (S, S) by at most ``reach``."""
    size = graph.size
    views = graph.pixels.cast("float32")
    if reach == 0:
        return views
    grey = views.mean(3)
    grey = grey - grey.mean(1, keep=True).mean(2, keep=True)
    offsets = np.r_[0 : reach + 1, -reach:0]
    peak = _surface(grey, reference, offsets).reshape(-1, len(offsets) ** 2).argmax(1)
    rows = graph.constant(offsets).take(peak / len(offsets))
    columns = graph.constant(offsets).take(graph.op("Mod", peak, len(offsets)))
    places = np.arange(size)
    down = graph.op("Clip", places - rows.spread(1), 0, size - 1)
    right = graph.op("Clip", places - columns.spread(1), 0, size - 1)
    flat = (down * size).spread(2) + right.spread(1)
    moved = views.reshape(-1, size * size, 3).pick(flat.reshape(-1, size * size))
    return moved.reshape(-1, size, size, 3)


def _surface(grey: Value, reference: npt.NDArray[np.float32], offsets: npt.NDArray[Any]) -> Value:
    """Phase correlation (n, k, k) at offsets (k,) of both axes, up to a factor."""
    size = len(reference)
    down, across = np.arange(size), np.arange(size // 2 + 1)
    cos_down, sin_down = _waves(down, down, size)
    cos_across, sin_across = _waves(down, across, size)
    even, odd = grey @ cos_across, grey @ sin_across
    real = cos_down @ even - sin_down @ odd
    imaginary = sin_down @ even + cos_down @ odd  # of the conjugate
    other = np.fft.rfft2(reference - reference.mean())
    cross = real * other.real - imaginary * other.imag, real * other.imag + imaginary * other.real
    length = (cross[0] * cross[0] + cross[1] * cross[1]).sqrt()
    length = length.graph.op("Max", length, 1e-6)
    phase = cross[0] / length, cross[1] / length
    cos_back, sin_back = _waves(offsets, down, size)
    real = cos_back @ phase[0] - sin_back @ phase[1]
    imaginary = cos_back @ phase[1] + sin_back @ phase[0]
    twice = np.where((across == 0) | (2 * across == size), 1.0, 2.0)[:, None]  # the half left out mirrors
    cos_back, sin_back = _waves(across, offsets, size)
    return real @ (twice * cos_back) - imaginary @ (twice * sin_back)


def _waves(one: npt.NDArray[Any], other: npt.NDArray[Any], size: int) -> tuple[Matrix, Matrix]:
    """Cosine and sine (len(one), len(other)) of 2π·one·other / size."""
    angles = 2 * np.pi * (np.outer(one, other) % size) / size
    return np.cos(angles), np.sin(angles)


def blur(size: int, sigma: float) -> Matrix:
    """Matrix (size, size) of a Gaussian filter, cut at four sigma, that repeats the pixel at the ends."""
    if sigma <= 0:
        return np.eye(size)
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    matrix = np.zeros((size, size))
    places = np.clip(np.arange(size)[:, None] + offsets, 0, size - 1)
    each = np.repeat(np.arange(size), len(offsets))
    np.add.at(matrix, (each, places.ravel()), np.tile(kernel / kernel.sum(), size))
    return matrix
