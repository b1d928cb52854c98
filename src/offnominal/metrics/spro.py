"""Saturated per-region overlap, for anomalies of which finding a part is enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from offnominal.metrics import areas
from offnominal.metrics.checks import share
from offnominal.metrics.pixels import PixelCounter


def spro(
    annotations: Iterable[Sequence[ArrayLike]],
    maps: Iterable[ArrayLike],
    saturations: Iterable[Sequence[float]],
    limit: float = 0.05,
    *,
    exact: bool = False,
) -> float:
    """Area under the saturated PRO curve up to a false-positive rate, divided by that rate.

    An annotation counts as fully found once as many of its pixels are found as its saturation area says: a
    missing part may have been anywhere in a wide region.

    Parameters
    ----------
    annotations : iterable of sequences of array_like, shape (H, W)
        For each map the masks of its anomalies, non-zero = anomalous; one mask is one anomaly, connected or
        not, and they may overlap. An empty sequence where all of the map is normal.
    maps : iterable of array_like, shape (H, W)
        Finite scores of any scale, higher = more anomalous; sizes may differ.
    saturations : iterable of sequences of float
        For each map the saturation area of each of its annotations, in pixels (see `saturation_area`).
    limit : float, default 0.05
        False-positive rate, over pixels in no annotation, up to which the area is taken, in (0, 1].
    exact : bool, default False
        As for `aupro`.

    Returns
    -------
    float
        In [0, 1], 1 best; NaN where there is no annotation, or no normal pixel.

    Raises
    ------
    ValueError
        Shapes or lengths differ, a score is not finite, an annotation is empty, a saturation area is not
        above 0, ``limit`` is outside (0, 1].

    References
    ----------
    P. Bergmann et al., Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and
    Localization, International Journal of Computer Vision 130 (2022), section 4.
    """
    end = share(limit, "limit")
    counter = PixelCounter(exact=exact)
    for marked, scores, areas_of in zip(annotations, maps, saturations, strict=True):
        counter.add_annotations(marked, areas_of, scores)
    return areas.area_to(*areas.overlap_points(counter.counts()), end) / end


def saturation_area(mask: ArrayLike, threshold: float, *, relative: bool) -> float:
    """Saturation area of an annotation, in pixels.

    Parameters
    ----------
    mask : array_like, shape (H, W)
        Non-zero = anomalous.
    threshold : float
        Share of the annotation's area in (0, 1] if ``relative``, else a number of pixels above 0; never more
        than the area itself.
    relative : bool
        How ``threshold`` is meant.

    Raises
    ------
    ValueError
        ``threshold`` is outside its range.
    """
    area = float(np.count_nonzero(np.asarray(mask)))
    if relative:
        return share(threshold, "a relative saturation threshold") * area
    if not threshold > 0:
        raise ValueError(f"a saturation threshold must be above 0 pixels, got {threshold}")
    return min(float(threshold), area)
