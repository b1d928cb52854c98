"""How well maps tell anomalous pixels from normal ones, pooled over all maps."""

from __future__ import annotations

from collections.abc import Iterable

from numpy.typing import ArrayLike

from offnominal.metrics import areas
from offnominal.metrics.checks import share
from offnominal.metrics.pixels import count_maps


def pixel_auroc(
    masks: Iterable[ArrayLike | None], maps: Iterable[ArrayLike], *, exact: bool = False
) -> float:
    """Area under the ROC curve over all pixels of all maps.

    Parameters
    ----------
    masks : iterable of array_like or None
        One a map and of its shape, non-zero = anomalous; None where all of the map is normal.
    maps : iterable of array_like
        Finite scores of any scale, higher = more anomalous; sizes may differ. Read once.
    exact : bool, default False
        False: memory stays flat; streams of more than about eight million pixels go through an adaptive
        histogram of float32 scores, within 1e-4 of the exact value. True: every pixel is kept and sorted.

    Returns
    -------
    float
        In [0, 1]; NaN where all pixels are normal or all anomalous.

    Raises
    ------
    ValueError
        A mask and its map differ in shape, a score is not finite, one iterable is longer than the other.
    """
    return areas.roc_area(count_maps(masks, maps, exact=exact, regions=False))


def pixel_average_precision(
    masks: Iterable[ArrayLike | None], maps: Iterable[ArrayLike], *, exact: bool = False
) -> float:
    """Average precision over all pixels of all maps; NaN where no pixel is anomalous.

    Arguments, errors as for `pixel_auroc`.
    """
    return areas.precision_area(count_maps(masks, maps, exact=exact, regions=False))


def max_dice(
    masks: Iterable[ArrayLike | None], maps: Iterable[ArrayLike], *, exact: bool = False
) -> tuple[float, float]:
    """Greatest Dice coefficient over all thresholds, pixels of all maps pooled; the same as pixel F1-max.

    Arguments, errors as for `pixel_auroc`.

    Returns
    -------
    dice : float
        In [0, 1]; NaN where no pixel is anomalous.
    threshold : float
        Score at or above which a pixel is called anomalous to get it; the highest such score.
    """
    return areas.best_f1(count_maps(masks, maps, exact=exact, regions=False))


def pixel_measures(
    masks: Iterable[ArrayLike | None],
    maps: Iterable[ArrayLike],
    *,
    limit: float = 0.3,
    exact: bool = False,
) -> dict[str, float]:
    """All pixel-level measures in one pass over the maps.

    Parameters
    ----------
    masks, maps, exact
        As for `pixel_auroc`; maps must be two-dimensional.
    limit : float, default 0.3
        False-positive rate up to which the area under the PRO curve is taken.

    Returns
    -------
    dict
        ``auroc``, ``average_precision``, ``aupro``; ``f1_max``, ``dice`` and ``iou`` of the pooled pixels
        at the best ``threshold`` (``dice`` is F1 by its other name; one threshold is best for all three).
        NaN for a measure that is not defined.

    Raises
    ------
    ValueError
        As `pixel_auroc`; a map is not two-dimensional; ``limit`` outside (0, 1].
    """
    end = share(limit, "limit")
    counts = count_maps(masks, maps, exact=exact, regions=True)
    f1, threshold = areas.best_f1(counts)
    return {
        "auroc": areas.roc_area(counts),
        "average_precision": areas.precision_area(counts),
        "aupro": areas.area_to(*areas.overlap_points(counts), end) / end,
        "f1_max": f1,
        "dice": f1,
        "iou": f1 / (2.0 - f1),
        "threshold": threshold,
    }
