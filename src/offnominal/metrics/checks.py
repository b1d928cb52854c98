"""What every measure refuses before it computes: arrays that do not fit together or cannot be ranked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def labels_and_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """Check item-level labels and scores.

    Parameters
    ----------
    labels : array_like, shape (n,)
        0 normal, 1 anomalous (bool, integer or float of these two values).
    scores : array_like, shape (n,)
        Finite, higher = more anomalous.

    Returns
    -------
    anomalous : ndarray of bool, shape (n,)
    scores : ndarray of float32 or float64, shape (n,)
        float32 stays float32, everything else becomes float64.

    Raises
    ------
    ValueError
        Shapes differ or are not one-dimensional, a label is not 0 or 1, a score is not finite.
    """
    given = np.asarray(labels)
    ranked = np.asarray(scores)
    if given.ndim != 1 or given.shape != ranked.shape:
        raise ValueError(
            "labels and scores must be one-dimensional and of one length, "
            f"got shapes {given.shape} and {ranked.shape}"
        )
    if given.dtype == np.bool_:
        anomalous = given
    else:
        anomalous = given == 1
        stray = ~(anomalous | (given == 0))
        if stray.any():
            at = int(np.argmax(stray))
            raise ValueError(
                f"labels must be 0 (normal) or 1 (anomalous), got {given[at]!r} at position {at}; "
                "leave items of unknown label out"
            )
    return anomalous, finite(ranked, "scores")


def finite(values: ArrayLike, what: str) -> NDArray[np.floating]:
    """Return ``values`` as floats (float32 kept, else float64); refuse NaN and infinities by position.

    Raises
    ------
    ValueError
        A value is not a finite number.
    """
    array = np.asarray(values)
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    usable = np.isfinite(array)
    if not usable.all():
        at = int(np.argmin(usable.ravel()))
        raise ValueError(f"{what} must be finite, got {array.ravel()[at]} at position {at}")
    return array


def share(value: float, what: str) -> float:
    """Return ``value`` if it lies in (0, 1], else raise ValueError."""
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{what} must be greater than 0 and at most 1, got {value}")
    return float(value)
