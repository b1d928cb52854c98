"""False-discovery control: which of many p-values to call anomalous so that few of the calls are wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadItems, BadSource
from offnominal.decide.inputs import Floats, check_rate


class Discoveries(NamedTuple):
    """Outcome of a false-discovery procedure on n p-values.

    Attributes
    ----------
    rejected : (n,) bool
        True where the item is called anomalous; False where there is no p-value.
    adjusted : (n,) float64
        Lowest rate at which the item would be rejected, in [0, 1]; NaN where there is no p-value.
    """

    rejected: npt.NDArray[np.bool_]
    adjusted: Floats


def benjamini_hochberg(p: npt.ArrayLike, q: float) -> Discoveries:
    """Control the expected share of false calls among all calls at q.

    Parameters
    ----------
    p : (n,) array
        p-values in [0, 1]; NaN = none, left out of the family.
    q : float
        False-discovery rate in (0, 1).

    Returns
    -------
    Discoveries
        ``(rejected, adjusted)``; rejected is ``adjusted <= q``.

    Raises
    ------
    BadSource, BadItems
        p is not one number an item, or some are outside [0, 1], named by position.

    Notes
    -----
    Valid for independent p-values and for conformal ones from one shared calibration set, which are
    positively dependent (Bates et al., 2023, theorem 2). With n normals no p-value by rank is below
    1/(n+1): of m items at least m / (q (n+1)) must be that extreme before any is called.

    References
    ----------
    Benjamini and Hochberg, Controlling the false discovery rate, JRSS B, 1995.
    """
    return _step_up(p, q, arbitrary_dependence=False)


def benjamini_yekutieli(p: npt.ArrayLike, q: float) -> Discoveries:
    """Control the false-discovery rate at q under any dependence between p-values.

    Parameters, result and errors are those of `benjamini_hochberg`; it costs a factor Σ 1/i, i = 1 … n.

    References
    ----------
    Benjamini and Yekutieli, The control of the false discovery rate under dependency, Annals of Statistics,
    2001.
    """
    return _step_up(p, q, arbitrary_dependence=True)


def _step_up(p: npt.ArrayLike, q: float, *, arbitrary_dependence: bool) -> Discoveries:
    check_rate(q, "q")
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1:
        raise BadSource(f"p must be one number an item, shape (n,), got shape {values.shape}")
    bad = np.flatnonzero((values < 0) | (values > 1))
    if len(bad):
        remedy = "a p-value is between 0 and 1, NaN where there is none"
        raise BadItems([BadItem(f"p-value at position {i}", f"is {values[i]}", remedy) for i in bad])
    adjusted = np.full(len(values), np.nan)
    at = np.flatnonzero(~np.isnan(values))
    at = at[np.argsort(values[at], kind="stable")]
    ranks = np.arange(1, len(at) + 1)
    factor = float((1 / ranks).sum()) if arbitrary_dependence else 1.0
    scaled = np.minimum(values[at] * len(at) * factor / ranks, 1.0)
    adjusted[at] = np.minimum.accumulate(scaled[::-1])[::-1]
    return Discoveries(adjusted <= q, adjusted)
