"""Unbroken runs of flagged steps: the events of a series, true or predicted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offnominal.metrics.checks import labels_and_scores
from offnominal.metrics.regions import Positions

Flags = NDArray[np.bool_]


def spans(flags: Flags) -> tuple[Positions, Positions]:
    """First step and the step after the last one of each run; both of shape (runs,), rising.

    Parameters
    ----------
    flags : ndarray of bool, shape (n,)
    """
    if len(flags) == 0:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    turns = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    if flags[0]:
        turns = np.append(0, turns)
    if flags[-1]:
        turns = np.append(turns, len(flags))
    return turns[0::2], turns[1::2]


def labels_and_predictions(labels: ArrayLike, predictions: ArrayLike) -> tuple[Flags, Flags]:
    """Check labels and predictions of the steps of one series.

    Parameters
    ----------
    labels, predictions : array_like, shape (n,)
        0 normal, 1 anomalous.

    Returns
    -------
    anomalous, flagged : ndarray of bool, shape (n,)

    Raises
    ------
    ValueError
        Shapes differ or are not one-dimensional, a value is not 0 or 1.
    """
    anomalous, given = labels_and_scores(labels, predictions)
    flagged = given == 1
    stray = ~(flagged | (given == 0))
    if stray.any():
        at = int(np.argmax(stray))
        raise ValueError(
            f"predictions must be 0 (normal) or 1 (anomalous), got {given[at]} at position {at}; "
            "compare scores with a threshold first"
        )
    return anomalous, flagged


def touched(first: Positions, stop: Positions, flags: Flags) -> Flags:
    """Whether each of the spans holds a flagged step; shape (spans,)."""
    before = np.concatenate(([0], np.cumsum(flags)))
    reached: Flags = before[stop] > before[first]
    return reached
