"""The threshold with the highest F1 on labelled scores."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from offnominal.core.errors import BadSource
from offnominal.decide.inputs import Floats, Labels
from offnominal.decide.thresholds import Threshold


class BestF1(Threshold):
    """Threshold of highest F1, halfway between two neighbouring scores; needs labels of both kinds.

    Items labelled −1 are left out. Of thresholds with equal F1 the highest is taken: fewest alarms.

    Notes
    -----
    The threshold suits the mixture of normal and anomalous items it was fitted on, and looks better on them
    than on new ones; it promises no false-alarm rate.

    References
    ----------
    Lipton, Elkan and Naryanaswamy, Optimal thresholding of classifiers to maximize F1 measure, 2014.
    """

    name: ClassVar[str] = "best_f1"
    unlabelled_are_normal: ClassVar[bool] = False

    def __init__(self) -> None:
        pass

    def _choose(self, scores: Floats, labels: Labels | None) -> float:
        if labels is None:
            raise BadSource("best_f1 needs labels: 0 for normal items, 1 for anomalous ones")
        normals, positives = (int(np.count_nonzero(labels == kind)) for kind in (0, 1))
        if not normals or not positives:
            raise BadSource(
                f"best_f1 needs labels of both kinds, got {normals} normal (0) and {positives} anomalous (1)"
            )
        known = labels >= 0
        levels, level_of = np.unique(scores[known], return_inverse=True)
        anomalous = labels[known] == 1
        size = len(levels)
        # Flagging levels i … end, for every i: true alarms and all alarms, from the highest level down.
        hits = np.bincount(level_of, weights=anomalous, minlength=size)[::-1].cumsum()[::-1]
        alarms = np.bincount(level_of, minlength=size)[::-1].cumsum()[::-1]
        # A ratio of exact integers, so that equal F1 compare equal; the last of the best is the highest.
        f1 = 2 * hits / (alarms + positives)
        lowest = size - 1 - int(np.argmax(f1[::-1]))
        if lowest == 0:
            return float(np.nextafter(levels[0], -np.inf))
        below, above = float(levels[lowest - 1]), float(levels[lowest])
        middle = below / 2 + above / 2
        return middle if below <= middle < above else below
