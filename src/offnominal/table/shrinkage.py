"""Covariances that can be inverted, however few the rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offnominal.normality.moments import Moments
from offnominal.normality.shrinkage import oracle_approximating

Matrix = npt.NDArray[np.float64]

_LEAST = 1e-6
"""Share of the identity that is always there, so that a duplicated column does not decide alone."""


def shrunk(covariance: Matrix, count: float) -> Matrix:
    """Pull a covariance (d, d) of ``count`` rows towards a multiple of the identity of the same trace.

    By the oracle approximating shrinkage (Chen et al. 2010), which vanishes as rows grow.
    """
    width = len(covariance)
    moments = Moments(width)
    moments.count = max(1, round(count))
    moments.scatter = covariance * moments.count
    share = max(oracle_approximating(moments), _LEAST)
    mean = float(np.trace(covariance)) / width
    return (1 - share) * covariance + share * (mean if mean > 0 else 1.0) * np.eye(width)
