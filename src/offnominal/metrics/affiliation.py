"""Affiliation precision and recall: how close predictions come to the anomalies they belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offnominal.metrics.counts import Floats
from offnominal.metrics.range_based import harmonic
from offnominal.metrics.regions import Positions
from offnominal.metrics.spans import labels_and_predictions, spans


@dataclass(frozen=True)
class Affiliation:
    """Affiliation measures of one series; ``precision`` and ``recall`` are means over its anomalies.

    Attributes
    ----------
    precision : float
        In [0, 1]; over the anomalies whose zone holds a prediction; NaN where nothing is predicted.
    recall : float
        In [0, 1]; NaN where there is no anomaly.
    precisions, recalls : ndarray of float64, shape (events,)
        Of each anomaly; a precision is NaN where its zone holds no prediction.
    """

    precision: float
    recall: float
    precisions: Floats
    recalls: Floats

    @property
    def f1(self) -> float:
        """Harmonic mean; 0 where nothing is predicted, NaN where there is no anomaly."""
        return harmonic(self.precision, self.recall)


def affiliation(labels: ArrayLike, predictions: ArrayLike) -> Affiliation:
    """Affiliation precision and recall, exact: integrals over continuous time in closed form.

    Every moment belongs to the zone of its nearest anomaly. In a zone, precision asks of each predicted
    moment how rarely a random one lies as close to the anomaly; recall asks of each anomalous moment how
    rarely a random prediction lies as close to it as the nearest prediction does. A random detector gets
    about 0.5, and a near miss costs little.

    Parameters
    ----------
    labels, predictions : array_like, shape (n,)
        0 normal, 1 anomalous, in the order of time. Step i is the interval [i, i + 1).

    Returns
    -------
    Affiliation

    Raises
    ------
    ValueError
        Shapes differ, a value is not 0 or 1.

    References
    ----------
    A. Huet, J. M. Navarro, D. Rossi, Local Evaluation of Time Series Anomaly Detection Algorithms, KDD 2022.
    """
    anomalous, flagged = labels_and_predictions(labels, predictions)
    first, stop = (edge.astype(np.float64) for edge in spans(anomalous))
    begin, end = (edge.astype(np.float64) for edge in spans(flagged))
    if len(first) == 0:
        return Affiliation(np.nan, np.nan, np.zeros(0), np.zeros(0))
    zones = _Zones.around(first, stop, float(len(anomalous)))
    precisions, recalls = _precisions(zones, begin, end), _recalls(zones, begin, end)
    held = precisions[~np.isnan(precisions)]
    precision = float(np.mean(held)) if len(held) else float("nan")
    return Affiliation(precision, float(np.mean(recalls)), precisions, recalls)


def affiliation_precision(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Affiliation precision; arguments, errors as for `affiliation`. NaN where nothing is predicted."""
    return affiliation(labels, predictions).precision


def affiliation_recall(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Affiliation recall; arguments, errors as for `affiliation`. 0 where nothing is predicted."""
    return affiliation(labels, predictions).recall


def affiliation_f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Harmonic mean of affiliation precision and recall; arguments, errors, source as for `affiliation`.

    0 where nothing is predicted; NaN where there is no anomaly.
    """
    return affiliation(labels, predictions).f1


@dataclass(frozen=True)
class _Zones:
    """Anomalies [first, stop) and what is nearest to each, [left, right); all of shape (events,)."""

    first: Floats
    stop: Floats
    left: Floats
    right: Floats

    @classmethod
    def around(cls, first: Floats, stop: Floats, end: float) -> _Zones:
        middle = (stop[:-1] + first[1:]) / 2.0
        return cls(first, stop, np.append(0.0, middle), np.append(middle, end))

    @property
    def width(self) -> Floats:
        return self.right - self.left

    def owner(self, moment: Floats) -> Positions:
        return np.searchsorted(self.left, moment, side="right") - 1


def _pieces(begin: Floats, end: Floats, cuts: Floats) -> tuple[Floats, Floats]:
    """The disjoint intervals [begin, end), cut at every one of ``cuts``."""
    edges = np.unique(np.concatenate((begin, end, cuts)))
    middle = (edges[:-1] + edges[1:]) / 2.0
    holder = np.searchsorted(begin, middle, side="right") - 1
    inside = (holder >= 0) & (middle < np.append(end, -np.inf)[holder])
    return edges[:-1][inside], edges[1:][inside]


def _precisions(zones: _Zones, begin: Floats, end: Floats) -> Floats:
    events = len(zones.first)
    start, stop = _pieces(begin, end, np.concatenate((zones.left, zones.first, zones.stop, zones.right[-1:])))
    middle = (start + stop) / 2.0
    zone = zones.owner(middle)
    before, after = middle < zones.first[zone], middle > zones.stop[zone]
    near = np.where(before, zones.first[zone] - stop, start - zones.stop[zone])
    far = np.where(before, zones.first[zone] - start, stop - zones.stop[zone])
    # A random moment of the zone is closer than d with chance (length of anomaly + what lies within d on
    # either side) / width; what lies within d is limited by the zone.
    length = zones.stop - zones.first
    closer = length[zone] * (far - near)
    for room in (zones.first - zones.left, zones.right - zones.stop):
        closer += _capped(far, room[zone]) - _capped(near, room[zone])
    outside = before | after
    gained = np.where(outside, stop - start - closer / zones.width[zone], stop - start)
    total = np.bincount(zone, weights=stop - start, minlength=events)
    reward = np.bincount(zone, weights=gained, minlength=events)
    precisions: Floats = np.divide(reward, total, out=np.full(events, np.nan), where=total > 0)
    return precisions


def _capped(distance: Floats, room: Floats) -> Floats:
    """Integral of min(d, room) for d from 0 to ``distance``."""
    low = np.minimum(distance, room)
    capped: Floats = low * low / 2.0 + room * (distance - low)
    return capped


def _recalls(zones: _Zones, begin: Floats, end: Floats) -> Floats:
    events = len(zones.first)
    # Predictions as each zone sees them.
    start, stop = _pieces(begin, end, np.append(zones.left, zones.right[-1:]))
    zone = zones.owner((start + stop) / 2.0)
    seen = np.bincount(zone, minlength=events) > 0
    # Anomalies cut where predictions begin and end, and halfway between two: each part has one nearest
    # prediction edge, or lies in a prediction.
    halfway = (stop[:-1] + start[1:]) / 2.0
    low, high = _pieces(zones.first, zones.stop, np.concatenate((start, stop, halfway)))
    middle = (low + high) / 2.0
    part = zones.owner(middle)
    previous = np.searchsorted(start, middle, side="right") - 1
    following = previous + 1
    left_edge = _edge(stop, zone, previous, part, -np.inf)
    right_edge = _edge(start, zone, following, part, np.inf)
    in_prediction = left_edge > middle
    from_left = middle - left_edge <= right_edge - middle
    # Distances to the nearer prediction and to the end of the zone on the other side of the moment.
    near = np.where(from_left, low - left_edge, right_edge - high)
    far = np.where(from_left, high - left_edge, right_edge - low)
    room = np.where(from_left, zones.right[part] - left_edge, right_edge - zones.left[part])
    missed = ~seen[part]
    idle = in_prediction | missed
    near, far, room = (np.where(idle, 0.0, given) for given in (near, far, room))
    closer = _both_sides(far, room) - _both_sides(near, room)
    gained = np.where(missed, 0.0, high - low - closer / zones.width[part])
    reward = np.bincount(part, weights=gained, minlength=events)
    recalls: Floats = reward / (zones.stop - zones.first)
    return recalls


def _edge(
    edges: Floats,
    zone: Positions,
    at: Positions,
    part: Positions,
    none: float,
) -> Floats:
    """``edges[at]`` where that prediction exists and lies in the zone of the part, else ``none``."""
    if len(edges) == 0:
        return np.full(len(part), none)
    held = np.clip(at, 0, len(edges) - 1)
    return np.where((held == at) & (zone[held] == part), edges[held], none)


def _both_sides(distance: Floats, room: Floats) -> Floats:
    """Integral over d from 0 to ``distance`` of d + min(d, room − d): what lies within d on both sides.

    A moment at distance d from a prediction edge has all of d on that side and room − d on the other.
    """
    low = np.minimum(distance, room / 2.0)
    rest = room - low
    other: Floats = low * low / 2.0 + (rest * rest - (room - distance) ** 2) / 2.0
    return distance * distance / 2.0 + other
