"""How far out rows lie in random one-dimensional views, in robust units."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.seeds import generator

Matrix = npt.NDArray[np.float64]

_BLOCK = 64  # directions looked at together: rows times this many numbers are held


def unit_directions(width: int, count: int, *, seed: int = 0) -> Matrix:
    """Directions (width, count) of length one, uniform on the sphere.

    Raises
    ------
    ValueError
        A number is not positive.
    """
    if width < 1 or count < 1:
        raise ValueError(f"directions need positive numbers, got {count} of width {width}")
    drawn = generator(seed, "outlyingness", f"{width}x{count}").standard_normal((width, count))
    unit: Matrix = drawn / np.linalg.norm(drawn, axis=0)
    return unit


class ProjectionOutlyingness:
    """``|uᵀx − med(uᵀX)| / MAD(uᵀX)`` for each of fixed directions u.

    Parameters
    ----------
    directions : ndarray (d, k)
    medians, spreads : ndarray (k,)
        Of the normal rows in each direction; see `of`.

    Notes
    -----
    The supremum over all directions is the classical outlyingness. Source: Donoho & Gasko, Annals of
    Statistics 1992; the mean in its place: Bauw et al., 2021, section 3.
    """

    def __init__(
        self, directions: npt.NDArray[Any], medians: npt.NDArray[Any], spreads: npt.NDArray[Any]
    ) -> None:
        if directions.ndim != 2 or medians.shape != spreads.shape or len(medians) != directions.shape[1]:
            raise ValueError("directions, medians and spreads do not fit together")
        self.directions = directions
        self.medians = medians
        self.spreads = spreads

    @classmethod
    def of(cls, rows: npt.NDArray[Any], directions: npt.NDArray[Any]) -> ProjectionOutlyingness:
        """Medians and spreads of normal rows (n, d).

        A spread is the median absolute deviation; where more than half of the rows coincide it is the mean
        one, and where all do, 1.
        """
        medians, spreads = np.empty(directions.shape[1]), np.empty(directions.shape[1])
        for first in range(0, directions.shape[1], _BLOCK):
            part = slice(first, first + _BLOCK)
            projected = rows @ directions[:, part]
            medians[part] = np.median(projected, axis=0)
            apart = np.abs(projected - medians[part])
            # differences as small as the rounding of the projections are none
            nothing = 1e-12 * np.abs(projected).max(axis=0)
            middle, mean = np.median(apart, axis=0), apart.mean(axis=0)
            spreads[part] = np.where(middle > nothing, middle, np.where(mean > nothing, mean, 1.0))
        return cls(directions, medians, spreads)

    def __call__(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Signed outlyingness (n, k) of rows (n, d) in each direction."""
        found: npt.NDArray[Any] = (rows @ self.directions - self.medians) / self.spreads
        return found
