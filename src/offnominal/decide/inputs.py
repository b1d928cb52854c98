"""What a decision is given: scores, labels and product names, checked before anything is learned."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadItems, BadSource

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Products = list[str | None]


def check_scores(scores: npt.ArrayLike) -> Floats:
    """Return scores as a (n,) float64 array.

    Raises
    ------
    BadSource
        Not one number an item.
    BadItems
        Some are NaN or infinite; each is named by its position.
    """
    try:
        checked = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadSource(f"scores must be numbers, one an item ({error})") from error
    if checked.ndim != 1:
        raise BadSource(f"scores must be one number an item, shape (n,), got shape {checked.shape}")
    bad = np.flatnonzero(~np.isfinite(checked))
    if len(bad):
        remedy = "leave the item out or impute its score"
        raise BadItems([BadItem(f"score at position {i}", f"is {checked[i]}", remedy) for i in bad])
    return checked


def check_labels(labels: npt.ArrayLike | None, n: int) -> Labels | None:
    """Return labels as a (n,) int8 array of 0 normal, 1 anomalous, −1 unknown; None stays None.

    Raises
    ------
    BadSource
        Another number of labels than scores.
    BadItems
        Some are neither 0, 1 nor −1; each is named by its position.
    """
    if labels is None:
        return None
    checked = np.asarray(labels)
    if checked.shape != (n,):
        raise BadSource(f"labels must be one an item: {n} scores, labels of shape {checked.shape}")
    bad = np.flatnonzero(~np.isin(checked, (-1, 0, 1)))
    if len(bad):
        remedy = "labels are 0 normal, 1 anomalous, -1 unknown"
        raise BadItems([BadItem(f"label at position {i}", f"is {checked[i]!r}", remedy) for i in bad])
    return checked.astype(np.int8)


def check_products(products: Sequence[str | None] | None, n: int) -> Products:
    """Return one product name (or None, unknown) an item; None gives n unknown ones.

    Raises
    ------
    BadSource
        Another number of products than scores.
    BadItems
        Some are neither text nor None; each is named by its position.
    """
    if products is None:
        return [None] * n
    if isinstance(products, str):
        raise BadSource(f"products must be one name an item, got the single text {products!r}")
    checked = list(products)
    if len(checked) != n:
        raise BadSource(f"products must be one an item: {n} scores, {len(checked)} products")
    if checked.count(None) == n:
        return checked
    bad = [i for i, name in enumerate(checked) if not (name is None or isinstance(name, str))]
    if bad:
        remedy = "a product is a text, or None where it is unknown"
        raise BadItems([BadItem(f"product at position {i}", f"is {checked[i]!r}", remedy) for i in bad])
    return [None if name is None else str(name) for name in checked]


def check_groups(groups: Sequence[Hashable] | None, n: int) -> npt.NDArray[np.intp] | None:
    """Return the number of each item's group; None where every item is a group by itself.

    Raises
    ------
    BadSource
        Another number of groups than scores.
    """
    if groups is None:
        return None
    names = list(groups)
    if len(names) != n:
        raise BadSource(f"groups must be one an item: {n} scores, {len(names)} groups")
    if names.count(None) == n:
        return None
    numbers: dict[Hashable, int] = {}
    found = [
        numbers.setdefault((position,) if name is None else name, len(numbers))
        for position, name in enumerate(names)
    ]
    return None if len(numbers) == n else np.asarray(found, dtype=np.intp)


def normal_positions(labels: Labels | None, n: int) -> npt.NDArray[np.intp]:
    """Positions of the items that count as normal.

    Without labels all do. With labels those labelled 0 do; where there is none, those labelled −1
    (unknown) stand in for them; where all are labelled anomalous, none does.
    """
    if labels is None:
        return np.arange(n)
    labelled = np.flatnonzero(labels == 0)
    return labelled if len(labelled) else np.flatnonzero(labels == -1)


def positions_by_product(products: Products) -> dict[str | None, npt.NDArray[np.intp]]:
    """Positions of the items of each product, products in order of name, unknown (None) last."""
    if products.count(None) == len(products):
        return {None: np.arange(len(products))} if products else {}
    found: dict[str | None, list[int]] = {}
    for position, name in enumerate(products):
        found.setdefault(name, []).append(position)
    order = sorted(found, key=lambda name: (name is None, name or ""))
    return {name: np.asarray(found[name], dtype=np.intp) for name in order}


def check_rate(value: Any, name: str) -> None:
    """Refuse what is not a number strictly between 0 and 1.

    Raises
    ------
    ValueError
        It is not.
    """
    if not is_number(value) or not 0 < value < 1:
        raise ValueError(f"{name} must be a number between 0 and 1, both excluded, got {value!r}")


def is_number(value: Any) -> bool:
    """Whether a value is one finite number that JSON can hold (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
