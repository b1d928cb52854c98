"""How often a threshold flags normal items, for all and for each product."""

from __future__ import annotations

from typing import Any

import numpy as np

from offnominal.decide.inputs import Floats, Products, positions_by_product


def share_above(scores: Floats, threshold: float | None) -> float | None:
    """Share of scores strictly above a threshold; None without scores or threshold."""
    if threshold is None or not len(scores):
        return None
    return float(np.count_nonzero(scores > threshold) / len(scores))


def tally(normals: Floats, products: Products, threshold: float) -> dict[str, Any]:
    """Realised false-alarm rate, as JSON.

    Parameters
    ----------
    normals : (n,) float64
        Scores of items that are known or taken to be normal.
    products : list of n names or None
        Their products.
    threshold : float
        A score strictly above it is an alarm.

    Returns
    -------
    dict
        ``n``, ``realised_false_alarm_rate`` (None for n = 0), and ``products``: the same two by name.
    """
    by_product = positions_by_product(products)
    return _entry(normals, threshold) | {
        "products": {
            name: _entry(normals[at], threshold) for name, at in by_product.items() if name is not None
        }
    }


def _entry(normals: Floats, threshold: float) -> dict[str, Any]:
    return {"n": len(normals), "realised_false_alarm_rate": share_above(normals, threshold)}
