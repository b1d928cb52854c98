"""Per-region overlap: every anomalous region counts the same, however small."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offnominal.metrics import areas
from offnominal.metrics.checks import share
from offnominal.metrics.counts import Floats
from offnominal.metrics.pixels import count_maps


def pro_curve(
    masks: Iterable[ArrayLike | None], maps: Iterable[ArrayLike], *, exact: bool = False
) -> tuple[Floats, Floats, NDArray[np.floating]]:
    """Mean overlap with the regions against the false-positive rate of the normal pixels.

    Parameters
    ----------
    masks, maps, exact
        As for `aupro`.

    Returns
    -------
    fpr, pro : ndarray, shape (k + 1,)
        Rising from (0, 0) to (1, 1). ``pro`` is the mean, over the 8-connected regions of all masks, of the
        share of the region at or above the threshold; ``fpr`` is pooled over all normal pixels. NaN where
        there is no region, or no normal pixel.
    thresholds : ndarray, shape (k + 1,)
        Falling, the first +inf.

    Raises
    ------
    ValueError
        As `aupro`.
    """
    counts = count_maps(masks, maps, exact=exact, regions=True)
    fpr, pro = areas.overlap_points(counts)
    return fpr, pro, np.append(np.asarray([np.inf], counts.thresholds.dtype), counts.thresholds)


def aupro(
    masks: Iterable[ArrayLike | None],
    maps: Iterable[ArrayLike],
    limit: float = 0.3,
    *,
    exact: bool = False,
) -> float:
    """Area under the PRO curve up to a false-positive rate, divided by that rate.

    Parameters
    ----------
    masks : iterable of array_like or None, shape (H, W)
        One a map and of its shape, non-zero = anomalous; None where all of the map is normal.
    maps : iterable of array_like, shape (H, W)
        Finite scores of any scale, higher = more anomalous; sizes may differ. Read once.
    limit : float, default 0.3
        False-positive rate up to which the area is taken, in (0, 1].
    exact : bool, default False
        False: memory stays flat; streams of more than about eight million pixels go through an adaptive
        histogram of float32 scores, within 1e-4 of the exact value. True: every pixel is kept and sorted.

    Returns
    -------
    float
        In [0, 1], 1 best; NaN where there is no region, or no normal pixel.

    Raises
    ------
    ValueError
        A mask and its map differ in shape or are not two-dimensional, a score is not finite, one iterable is
        longer than the other, ``limit`` is outside (0, 1].

    References
    ----------
    P. Bergmann et al., The MVTec Anomaly Detection Dataset, International Journal of Computer Vision 129
    (2021), section 5.
    """
    end = share(limit, "limit")
    counts = count_maps(masks, maps, exact=exact, regions=True)
    return areas.area_to(*areas.overlap_points(counts), end) / end
