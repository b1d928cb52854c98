"""Overlap of a predicted mask with a true one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def iou(mask: ArrayLike, predicted: ArrayLike) -> float:
    """Intersection over union of two masks.

    Parameters
    ----------
    mask, predicted : array_like
        One shape, non-zero = anomalous.

    Returns
    -------
    float
        In [0, 1]; NaN where both are empty.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    common, true, called = _areas(mask, predicted)
    union = true + called - common
    return common / union if union else float("nan")


def dice(mask: ArrayLike, predicted: ArrayLike) -> float:
    """Dice coefficient of two masks: twice the intersection over the sum of both areas.

    Arguments, errors as for `iou`. NaN where both are empty.
    """
    common, true, called = _areas(mask, predicted)
    return 2 * common / (true + called) if true + called else float("nan")


def _areas(mask: ArrayLike, predicted: ArrayLike) -> tuple[int, int, int]:
    true, called = np.asarray(mask) != 0, np.asarray(predicted) != 0
    if true.shape != called.shape:
        raise ValueError(f"masks must have one shape, got {true.shape} and {called.shape}")
    return int(np.count_nonzero(true & called)), int(np.count_nonzero(true)), int(np.count_nonzero(called))
