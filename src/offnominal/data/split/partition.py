"""Folds and hold-outs that keep groups whole and products spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from offnominal.core.seeds import generator
from offnominal.core.source import Reference

Positions = npt.NDArray[np.intp]


def folds(
    references: Sequence[Reference], k: int, seed: int, groups: npt.ArrayLike | None = None
) -> list[Positions]:
    """Cut items into at most ``k`` parts of about the same size.

    Parameters
    ----------
    references : sequence of Reference
        Items of one ``group`` stay in one part; the items of each ``product`` are spread over all parts.
    k : int
        Parts wanted; with fewer groups there are as many parts as groups.
    seed : int
    groups : array-like (n,), optional
        What stays together among items whose reference names no group, such as clusters of near-duplicates;
        None: each item on its own.

    Returns
    -------
    list of ndarray of int
        Sorted positions; together they are every item once. Empty for no items.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    blocks, counts = _blocks(references, groups)
    k = min(k, len(blocks))
    if k == 0:
        return []
    random = generator(seed, "split", "folds")
    shuffled = random.permutation(len(blocks))
    sizes = counts.sum(axis=1)
    product = counts.argmax(axis=1)
    order = shuffled[np.lexsort((product[shuffled], -sizes[shuffled]))]  # large first, product by product
    filled = np.zeros((k, counts.shape[1]), dtype=np.int64)
    home = np.empty(len(blocks), dtype=np.intp)
    for block in order:
        clash = filled @ counts[block]
        home[block] = np.lexsort((filled.sum(axis=1), clash))[0]
        filled[home[block]] += counts[block]
    if (filled.sum(axis=1) == 0).any():  # one product's large blocks may leave a part without any
        home = _fill_empty(home, sizes, k)
    return [np.sort(np.concatenate([blocks[b] for b in np.flatnonzero(home == part)])) for part in range(k)]


def holdout(
    references: Sequence[Reference], fraction: float, seed: int, groups: npt.ArrayLike | None = None
) -> tuple[Positions, Positions]:
    """Hold a share of the items out.

    Parameters
    ----------
    references, seed, groups
        As for `folds`.
    fraction : float
        Share wanted, 0 < fraction < 1; met within a group's size, never exceeded by more than the smallest
        group.

    Returns
    -------
    train, held : ndarray of int
        Sorted positions. ``held`` is empty only where all items are one group.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
    blocks, counts = _blocks(references, groups)
    everything = np.arange(len(references))
    if len(blocks) < 2:
        return everything, everything[:0]
    random = generator(seed, "split", "holdout")
    sizes = counts.sum(axis=1)
    wanted = np.floor(fraction * counts.sum(axis=0) + 1e-9)
    total = min(round(fraction * len(references)), len(references) - int(sizes.min()))
    taken = np.zeros_like(counts[0])
    chosen: set[int] = set()
    for spare in (0, 1, total):  # first each product's share, then one more, then whatever fits
        for block in random.permutation(len(blocks)):
            products = counts[block] > 0
            if block in chosen or taken.sum() + sizes[block] > total:
                continue
            if (taken + counts[block] <= wanted + spare)[products].all():
                taken += counts[block]
                chosen.add(int(block))
    if not chosen:
        chosen = {int(sizes.argmin())}
    held = np.sort(np.concatenate([blocks[block] for block in chosen]))
    return np.setdiff1d(everything, held), held


def _blocks(
    references: Sequence[Reference], groups: npt.ArrayLike | None
) -> tuple[list[Positions], npt.NDArray[np.int64]]:
    """Positions that stay together, and how many items of each product (columns) each block has."""
    given = None if groups is None else np.asarray(groups)
    if given is not None and given.shape != (len(references),):
        raise ValueError(f"groups has shape {given.shape}, ({len(references)},) is needed")
    members: dict[tuple[str, object], list[int]] = {}
    products: dict[str | None, int] = {}
    for position, reference in enumerate(references):
        if reference.group is not None:
            key: tuple[str, object] = ("named", reference.group)
        else:
            key = ("alone", position) if given is None else ("given", given[position].item())
        members.setdefault(key, []).append(position)
        products.setdefault(reference.product, len(products))
    counts = np.zeros((len(members), len(products)), dtype=np.int64)
    for block, positions in enumerate(members.values()):
        for position in positions:
            counts[block, products[references[position].product]] += 1
    return [np.array(positions, dtype=np.intp) for positions in members.values()], counts


def _fill_empty(home: Positions, sizes: npt.NDArray[np.int64], k: int) -> Positions:
    """Give each empty part the smallest block of the part that has most blocks."""
    home = home.copy()
    for part in range(k):
        if not (home == part).any():
            richest = np.bincount(home, minlength=k).argmax()
            mine = np.flatnonzero(home == richest)
            home[mine[sizes[mine].argmin()]] = part
    return home
