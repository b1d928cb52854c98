"""How far a sample covariance is pulled towards a multiple of the identity."""

from __future__ import annotations

import numpy as np

from offnominal.normality.moments import Moments


def ledoit_wolf(moments: Moments) -> float:
    """Weight in [0, 1] of the identity that minimises the expected squared error, for any distribution.

    Notes
    -----
    Source: Ledoit & Wolf, J. Multivariate Analysis 2004, Sec. 3.3; here from moments alone, by
    Σᵢ‖xᵢxᵢᵀ − S‖² = Σ‖xᵢ‖⁴ − n‖S‖² for centred rows.
    """
    n, width = moments.count, len(moments.mean)
    covariance = moments.scatter / n
    squared = float(np.sum(covariance**2))
    spread = squared - float(np.trace(covariance)) ** 2 / width
    if spread <= 0:
        return 1.0 if width > 1 else 0.0
    error = (moments.fourth / n - squared) / n
    return min(max(error / spread, 0.0), 1.0)


def oracle_approximating(moments: Moments) -> float:
    """Weight in [0, 1] of the identity, for Gaussian data; smaller error than Ledoit–Wolf for few rows.

    Notes
    -----
    Source: Chen et al., IEEE Trans. Signal Processing 2010, eq. 23, without the terms in 2/p as in the
    common implementations.
    """
    n, width = moments.count, len(moments.mean)
    covariance = moments.scatter / n
    mean_square = float(np.mean(covariance**2))
    scale = float(np.trace(covariance)) / width
    excess = mean_square - scale**2 / width
    if excess <= 0:
        return 1.0
    return min((mean_square + scale**2) / ((n + 1) * excess), 1.0)
