"""One Gaussian of vectors, with a shrunk covariance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from offnominal.normality.moments import Moments
from offnominal.normality.shrinkage import ledoit_wolf, oracle_approximating

Shrinkage = Literal["ledoit-wolf", "oas"]
_ESTIMATORS = {"ledoit-wolf": ledoit_wolf, "oas": oracle_approximating}


class ShrunkGaussian:
    """A Gaussian learned from a stream of rows, scored by Mahalanobis distance.

    Parameters
    ----------
    width : int
        Length d of a row.
    shrinkage : {"ledoit-wolf", "oas"}, default "ledoit-wolf"
        Estimator of how far the covariance is pulled towards a multiple of the identity.
    drop_variance : float in [0, 1), default 0.0
        Leading principal components that together explain at most this share of the variance are left out
        of the distance, which then looks at the components of least variance only.

    Notes
    -----
    Source: Rippel et al., ICPR 2020 (the Gaussian of deep features and its least-variance projection).
    """

    def __init__(
        self, width: int, *, shrinkage: Shrinkage = "ledoit-wolf", drop_variance: float = 0.0
    ) -> None:
        if width < 1:
            raise ValueError(f"width must be positive, got {width}")
        if shrinkage not in _ESTIMATORS:
            raise ValueError(f"shrinkage must be one of {', '.join(_ESTIMATORS)}, got {shrinkage!r}")
        if not 0 <= drop_variance < 1:
            raise ValueError(f"drop_variance must be in [0, 1), got {drop_variance}")
        self.shrinkage = shrinkage
        self.drop_variance = drop_variance
        self.moments = Moments(width)
        self._whitening: npt.NDArray[np.float64] | None = None

    def absorb(self, rows: npt.NDArray[np.floating]) -> Self:
        """Add rows (n, d)."""
        width = len(self.moments.mean)
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(f"rows must have shape (n, {width}), got {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("a Gaussian needs finite rows; remove those with NaN or infinity first")
        self.moments.absorb(rows)
        self._whitening = None
        return self

    def merge(self, other: ShrunkGaussian) -> Self:
        """Add another's rows; equal to having absorbed them, up to rounding."""
        if len(other.moments.mean) != len(self.moments.mean):
            raise ValueError(f"widths differ: {len(self.moments.mean)} and {len(other.moments.mean)}")
        self.moments.merge(other.moments)
        self._whitening = None
        return self

    @property
    def count(self) -> int:
        """Rows absorbed."""
        return self.moments.count

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean (d,)."""
        return self.moments.mean

    @property
    def weight(self) -> float:
        """Weight of the identity in the covariance, in [0, 1]."""
        self._need_rows()
        return _ESTIMATORS[self.shrinkage](self.moments)

    @property
    def covariance(self) -> npt.NDArray[np.float64]:
        """Shrunk covariance (d, d)."""
        weight = self.weight
        covariance = self.moments.scatter * ((1 - weight) / self.count)
        covariance[np.diag_indices_from(covariance)] += weight * self._scale()
        return covariance

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """Inverse covariance (d, d), of the components kept."""
        whitening = self._whiten()
        return whitening @ whitening.T

    @property
    def whitening(self) -> npt.NDArray[np.float64]:
        """Matrix W (d, kept): distances are the lengths of (x − mean) W."""
        return self._whiten()

    @property
    def dimensions(self) -> int:
        """Components in the distance: its degrees of freedom for a chi-square law."""
        return int(self._whiten().shape[1])

    def mahalanobis(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Mahalanobis distance (n,) of rows (n, d), not squared.

        Raises
        ------
        ValueError
            Fewer than two rows were absorbed, or rows have another width.
        """
        whitening = self._whiten()
        if rows.ndim != 2 or rows.shape[1] != len(whitening):
            raise ValueError(f"rows must have shape (n, {len(whitening)}), got {rows.shape}")
        squared = np.empty(len(rows))
        for first in range(0, len(rows), 4096):
            white = (rows[first : first + 4096] - self.mean) @ whitening
            squared[first : first + 4096] = np.einsum("ij,ij->i", white, white)
        return np.sqrt(squared)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything there is, as arrays."""
        settings = [list(_ESTIMATORS).index(self.shrinkage), self.drop_variance]
        return self.moments.state() | {"settings": np.array(settings, np.float64)}

    @classmethod
    def restore(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Gaussian from what `state` returned."""
        names: list[Shrinkage] = ["ledoit-wolf", "oas"]
        shrinkage, drop_variance = names[int(state["settings"][0])], float(state["settings"][1])
        gaussian = cls(len(state["mean"]), shrinkage=shrinkage, drop_variance=drop_variance)
        gaussian.moments = Moments.restore(state)
        return gaussian

    def _scale(self) -> float:
        """Mean variance of a dimension."""
        return float(np.trace(self.moments.scatter)) / self.count / len(self.mean)

    def _need_rows(self) -> None:
        if self.count < 2:
            raise ValueError(f"a Gaussian needs at least two rows, got {self.count}")

    def _whiten(self) -> npt.NDArray[np.float64]:
        """Matrix W (d, kept) with W Wᵀ the precision, computed once after the last row."""
        self._need_rows()
        if self._whitening is None:
            covariance = self.covariance
            # Constant data leave nothing to divide by; features differ in the seventh digit at best.
            floor = 1e-12 * max(self._scale(), float(np.abs(self.mean).max()) ** 2 * 1e-2, 1e-24)
            covariance[np.diag_indices_from(covariance)] += floor
            if self.drop_variance:
                values, vectors = np.linalg.eigh(covariance)
                share = np.cumsum(values[::-1]) / values.sum()
                dropped = min(int(np.searchsorted(share, self.drop_variance, side="right")), len(values) - 1)
                kept = len(values) - dropped
                self._whitening = vectors[:, :kept] / np.sqrt(np.maximum(values[:kept], floor))
            else:
                inverse = np.linalg.inv(np.linalg.cholesky(covariance))
                self._whitening = np.ascontiguousarray(inverse.T)
        return self._whitening
