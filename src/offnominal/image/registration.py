"""Registration of a photograph of something flat to a reference: the homography between the two.

A search over turns, sizes and shifts finds about where it lies; Gauss–Newton on grey values, brought to one
mean and contrast, finds exactly where (forward compositional; Baker & Matthews, "Lucas-Kanade 20 Years On",
IJCV 2004).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.data import resize

Array = npt.NDArray[Any]

COARSE, SIDES = 64, (64, 128)
"""Sides, in pixels, of the search and of the refinements; none is larger than the reference but the first."""

TURNS = np.deg2rad((-9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0))
SIZES = (0.86, 0.93, 1.0, 1.075, 1.16)
ROUNDS = 15
FLAT = 2.0
"""Deviation, in grey levels, below which there is nothing to register by."""

LIES, STILL = 0.9, 0.5
"""Correlation from which on no search is needed; pixels of the last side that are no move at all."""


class Registration:
    """Finds where images lie relative to a reference.

    Parameters
    ----------
    reference : (h, w) array
        Grey values in 0…255.
    """

    def __init__(self, reference: Array) -> None:
        self._sides = [side for side in SIDES if side == COARSE or side <= max(reference.shape)]
        self._levels = {side: _grey(reference, side) for side in self._sides}

    def find(self, grey: Array) -> Array:
        """Where each place of the reference lies in an image.

        Parameters
        ----------
        grey : (h, w) array
            Grey values in 0…255 of the whole image, of any size.

        Returns
        -------
        (3, 3) float64 array
            Homography of coordinates (x, y) in [−1, 1] over the image; the identity where the images are
            flat, or where what was found is no real move, or lies no better than the image as it is.
        """
        still, last = np.eye(3), self._sides[-1]
        if min(grey.std(), self._levels[last].std()) < FLAT:
            return still
        small = _grey(grey, COARSE)
        found = _refined(self._levels[COARSE], small, still)
        if _likeness(self._levels[COARSE], small, found) < LIES:
            found = _refined(self._levels[COARSE], small, self._search(small))
        for side in self._sides[1:]:
            found = _refined(self._levels[side], _grey(grey, side), found)
        reference, image = self._levels[last], _grey(grey, last)
        corners = np.array([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)]).T
        moved = found @ corners
        far = np.abs(moved[:2] / moved[2] - corners[:2]).max() * last / 2
        better = _likeness(reference, image, found) > _likeness(reference, image, still) + 1e-3
        return found if better and far > STILL else still

    def _search(self, image: Array) -> Array:
        """The best of turns and sizes, each with its best shift."""
        reference = self._levels[COARSE]
        window = np.outer(np.hanning(COARSE), np.hanning(COARSE))
        transformed = np.fft.rfft2((reference - reference.mean()) * window)
        best, chosen = -np.inf, np.eye(3)
        for turn in TURNS:
            for size in SIZES:
                cos, sin = size * np.cos(turn), size * np.sin(turn)
                tried = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
                moved = warp(image, tried, image.shape[:2])
                cross = np.fft.rfft2((moved - moved.mean()) * window) * np.conj(transformed)
                surface = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-6), s=image.shape)
                row, column = np.unravel_index(surface.argmax(), surface.shape)
                shift = [(place + COARSE // 2) % COARSE - COARSE // 2 for place in (column, row)]
                along = np.eye(3)
                along[:2, 2] = 2 * np.array(shift) / COARSE
                like = _likeness(reference, image, tried @ along)
                if like > best:
                    best, chosen = like, tried @ along
        return chosen


def warp(image: Array, matrix: Array, shape: tuple[int, int], outside: float | None = None) -> Array:
    """An image as seen through a homography.

    Parameters
    ----------
    image : (h, w) or (h, w, c) array
    matrix : (3, 3) array
        From coordinates of the output to those of the image, both in [−1, 1].
    shape : (rows, columns)
        Of the output.
    outside : float, optional
        Value beyond the image; None repeats its border.

    Returns
    -------
    float32 array (rows, columns) or (rows, columns, c)
    """
    from scipy.ndimage import map_coordinates

    rows, columns = shape
    y, x = np.meshgrid(
        (2 * np.arange(rows) + 1) / rows - 1, (2 * np.arange(columns) + 1) / columns - 1, indexing="ij"
    )
    there = matrix @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    height, width = image.shape[:2]
    across = ((there[0] / there[2] + 1) * width - 1) / 2
    down = ((there[1] / there[2] + 1) * height - 1) / 2
    how: dict[str, Any] = (
        {"order": 1, "mode": "nearest"} if outside is None else {"order": 1, "cval": outside}
    )
    planes = image[..., None] if image.ndim == 2 else image
    moved = np.stack(
        [map_coordinates(plane, [down, across], np.float32, **how) for plane in np.moveaxis(planes, 2, 0)], -1
    ).reshape(rows, columns, -1)
    return moved[..., 0] if image.ndim == 2 else moved


def _grey(image: Array, side: int) -> Array:
    small: Array = resize(np.asarray(image, np.float32)[..., None], (side, side))[..., 0]
    return small


def _standard(image: Array, inside: Array) -> Array:
    """Mean 0 and deviation 1 over the pixels that lie inside, others 0."""
    chosen = image[inside]
    deviation = max(float(chosen.std()), 1e-6) if chosen.size else 1.0
    mean = float(chosen.mean()) if chosen.size else 0.0
    return np.where(inside, (image - mean) / deviation, 0.0)


def _seen(image: Array, matrix: Array) -> tuple[Array, Array]:
    """The image through a homography, and which pixels of that lie inside of it."""
    moved = warp(image, matrix, image.shape[:2])
    inside = warp(np.ones_like(image), matrix, image.shape[:2], 0.0) > 0.99
    return moved, inside


def _likeness(reference: Array, image: Array, matrix: Array) -> float:
    """Correlation where both are seen; −1 where that is less than half of the reference."""
    moved, inside = _seen(image, matrix)
    if inside.mean() < 0.5:
        return -1.0
    return float((_standard(reference, inside) * _standard(moved, inside))[inside].mean())


def _refined(reference: Array, image: Array, matrix: Array) -> Array:
    """Gauss–Newton steps that end when they grow small, or lead away."""
    side = len(reference)
    line = (2 * np.arange(side) + 1) / side - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    best, kept = _likeness(reference, image, matrix), matrix
    for _ in range(ROUNDS):
        moved, inside = _seen(image, matrix)
        if inside.mean() < 0.5:
            break
        now = _standard(moved, inside)
        down, across = np.gradient(now, 2 / side)
        inside[[0, -1]] = inside[:, [0, -1]] = False
        apart = _standard(reference, inside) - now
        along = x * across + y * down
        columns = (x * across, y * across, across, x * down, y * down, down, -x * along, -y * along)
        design = np.stack([column[inside] for column in columns], 1)
        rest = apart[inside]
        # What does not fit at all (a missing part) must not pull: weights of the Huber kind.
        scale = 1.345 * max(float(np.median(np.abs(rest))) / 0.6745, 1e-6)
        weights = np.minimum(1.0, scale / np.maximum(np.abs(rest), 1e-12))
        left = design.T @ (design * weights[:, None])
        left[np.diag_indices(8)] += 1e-6 * np.trace(left) / 8 + 1e-12
        step = np.linalg.solve(left, design.T @ (rest * weights))
        change = np.append(step, 0.0).reshape(3, 3) + np.eye(3)
        matrix = matrix @ change
        matrix = matrix / matrix[2, 2]
        like = _likeness(reference, image, matrix)
        if like > best:
            best, kept = like, matrix
        if like < best - 0.05 or np.abs(step).max() < 5e-4:
            break
    return kept
