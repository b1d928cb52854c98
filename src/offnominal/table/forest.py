"""Random isolation trees: grown side by side, kept as flat arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.threads import budget

Matrix = npt.NDArray[np.float64]
_CELLS = 1 << 24  # numbers held at a time while trees grow
_WORTH = 500_000  # steps from which compiling pays: a block of 5 000 rows and 100 trees


def grow(
    rows: Matrix, trees: int, sample: int, extension: int, random: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    """Grow isolation trees.

    Parameters
    ----------
    rows : ndarray (n, d)
    trees : int
    sample : int
        Rows of a tree, drawn without replacement; n where there are fewer.
    extension : int
        0 splits on one column; more tilts the split by that many further columns.
    random : numpy Generator

    Returns
    -------
    dict of ndarray
        For each node: ``columns`` (m, extension + 1) and ``weights`` of the split, its ``levels``, the left
        of its two neighbouring ``children`` (−1 in a leaf), ``depths``, the path length that a leaf stands
        for; and the ``roots``.
    """
    size = min(sample, len(rows))
    at_once = max(1, _CELLS // max(size * rows.shape[1], 1))
    parts = []
    for first in range(0, trees, at_once):
        count = min(at_once, trees - first)
        chosen = np.stack([random.choice(len(rows), size, replace=False) for _ in range(count)])
        parts.append(_grow(rows[chosen.ravel()], count, size, extension, random))
    shifts = np.cumsum([0, *(len(part["levels"]) for part in parts)])
    for part, shift in zip(parts, shifts[:-1], strict=True):
        part["roots"] += shift
        part["children"][part["children"] >= 0] += shift
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _grow(
    rows: Matrix, trees: int, size: int, extension: int, random: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    """Trees on consecutive blocks of ``size`` rows, level by level."""
    width = min(extension + 1, rows.shape[1])
    limit = int(np.ceil(np.log2(max(size, 2))))
    node = np.repeat(np.arange(trees), size)  # of each row that may still be split off
    columns = [np.zeros((trees, width), np.int32)]
    weights = [np.zeros((trees, width))]
    levels = [np.zeros(trees)]
    children = [np.full(trees, -1, np.int32)]
    depths = [np.full(trees, _average_path(np.array([size]))[0])]
    owners = [np.arange(trees)]
    first = 0  # of the nodes of this level
    for depth in range(limit):
        order = np.argsort(node, kind="stable")
        rows, node = rows[order], node[order]
        if not len(node):
            break
        starts = np.flatnonzero(np.concatenate([[True], node[1:] != node[:-1]]))
        low, high = np.minimum.reduceat(rows, starts), np.maximum.reduceat(rows, starts)
        varied = high > low
        split = np.flatnonzero(varied.any(axis=1))
        if not len(split):
            break
        keys = np.where(varied[split], random.random((len(split), rows.shape[1])), -1.0)
        picked = np.argsort(-keys, axis=1)[:, :width] if width > 1 else keys.argmax(axis=1)[:, None]
        each = np.arange(len(split))[:, None]
        # In (low, high], so that on one column neither side is empty.
        drawn = high[split][each, picked]
        drawn = drawn - random.random(drawn.shape) * (drawn - low[split][each, picked])
        tilt = random.standard_normal(drawn.shape) if width > 1 else np.ones(drawn.shape)
        tilt *= keys[each, picked] >= 0  # a column that does not vary here has no say
        level = (tilt * drawn).sum(axis=1)

        rank = np.full(len(starts), -1)
        rank[split] = np.arange(len(split))
        mine = np.repeat(rank, np.diff(starts, append=len(node)))
        rows, mine = rows[mine >= 0], mine[mine >= 0]
        value = np.take_along_axis(rows, picked[mine], axis=1)
        right = (tilt[mine] * value).sum(axis=1) >= level[mine]

        parents = node[starts][split] - first
        columns[-1][parents], weights[-1][parents], levels[-1][parents] = picked, tilt, level
        after = first + len(levels[-1])
        children[-1][parents] = after + 2 * np.arange(len(split))
        node = after + 2 * mine + right
        counts = np.bincount(node - after, minlength=2 * len(split))
        owners.append(np.repeat(owners[-1][parents], 2))
        columns.append(np.zeros((2 * len(split), width), np.int32))
        weights.append(np.zeros((2 * len(split), width)))
        levels.append(np.zeros(2 * len(split)))
        children.append(np.full(2 * len(split), -1, np.int32))
        depths.append(depth + 1 + _average_path(counts))
        several = counts[node - after] > 1
        rows, node, first = rows[several], node[several], after
    nodes = {
        "columns": np.concatenate(columns),
        "weights": np.concatenate(weights),
        "levels": np.concatenate(levels),
        "children": np.concatenate(children),
        "depths": np.concatenate(depths),
    }
    return _tree_by_tree(nodes, np.concatenate(owners), trees)


def _tree_by_tree(
    nodes: dict[str, npt.NDArray[Any]], owner: npt.NDArray[np.intp], trees: int
) -> dict[str, npt.NDArray[Any]]:
    """Put the nodes of each tree together, so that walking one stays in the cache."""
    order = np.argsort(owner, kind="stable")
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    moved = {name: values[order] for name, values in nodes.items()}
    inner = moved["children"] >= 0
    moved["children"][inner] = place[moved["children"][inner]]
    return {**moved, "roots": place[:trees]}


def _average_path(count: npt.NDArray[Any]) -> Matrix:
    """Mean path length c(n) of an unsuccessful search in a binary search tree (Liu et al., eq. 1)."""
    n = np.maximum(count.astype(np.float64), 2)
    found = 2 * (np.log(np.maximum(n - 1, 1)) + np.euler_gamma) - 2 * (n - 1) / n
    return np.where(count > 2, found, np.where(count == 2, 1.0, 0.0))


def average_path(count: int) -> float:
    """c(n), at least that of two rows."""
    return float(_average_path(np.array([max(count, 2)]))[0])


def check(forest: dict[str, npt.NDArray[Any]], width: int) -> None:
    """Refuse trees that would lead outside their arrays or round in circles.

    Raises
    ------
    ValueError
        They do.
    """
    children, nodes = forest["children"], len(forest["levels"])
    inner = np.flatnonzero(children >= 0)
    good = (
        all(len(forest[name]) == nodes for name in ("columns", "weights", "children", "depths"))
        and forest["columns"].shape == forest["weights"].shape
        and (children[inner] > inner).all()
        and (children[inner] + 1 < nodes).all()
        and ((forest["columns"] >= 0) & (forest["columns"] < width)).all()
        and len(forest["roots"]) > 0
        and ((forest["roots"] >= 0) & (forest["roots"] < nodes)).all()
    )
    if not good:
        raise ValueError("the trees are damaged")


def mean_depths(forest: dict[str, npt.NDArray[Any]], rows: Matrix) -> Matrix:
    """Mean path length (n,) of rows (n, d) over the trees.

    The compiled loop and numpy's give the same numbers up to rounding; which one runs depends on the number
    of rows only.
    """
    trees, width = len(forest["roots"]), forest["columns"].shape[1]
    if len(rows) * trees * width >= _WORTH:
        try:
            from offnominal.table import compiled
        except ImportError:
            pass
        else:
            return _compiled(compiled, forest, rows) / trees
    return _walked(forest, rows) / trees


def _compiled(loops: Any, forest: dict[str, npt.NDArray[Any]], rows: Matrix) -> Matrix:
    inner = forest["children"] >= 0
    after = np.where(inner, forest["children"], np.arange(len(inner))).astype(np.uint32)
    levels = np.where(inner, forest["levels"], np.inf)
    total = np.empty(len(rows))
    rest = (levels, after, forest["depths"], forest["roots"].astype(np.uint32), _height(after, forest), total)
    loops.use_threads(budget())
    columns = forest["columns"].astype(np.uint32)
    if columns.shape[1] == 1:
        loops.tree_depths(rows, np.ascontiguousarray(columns[:, 0]), *rest)
    else:
        loops.slanted_depths(rows, columns, forest["weights"], *rest)
    return total


def _height(after: npt.NDArray[np.uint32], forest: dict[str, npt.NDArray[Any]]) -> int:
    """Steps from a root to the deepest leaf."""
    level, steps = forest["roots"], 0
    while len(level := level[forest["children"][level] >= 0]):
        level = np.concatenate([after[level], after[level] + 1])
        steps += 1
    return steps


def _walked(forest: dict[str, npt.NDArray[Any]], rows: Matrix) -> Matrix:
    columns, weights = forest["columns"], forest["weights"]
    levels, children = forest["levels"], forest["children"]
    total = np.zeros(len(rows))
    for root in forest["roots"]:
        node = np.full(len(rows), root)
        going = np.arange(len(rows)) if children[root] >= 0 else np.empty(0, np.intp)
        while len(going):
            here = node[going]
            if columns.shape[1] == 1:
                value = rows[going, columns[here, 0]]
            else:
                value = np.zeros(len(going))
                for part in range(columns.shape[1]):  # in the compiled loop's order
                    value += weights[here, part] * rows[going, columns[here, part]]
            here = children[here] + (value >= levels[here])
            node[going] = here
            going = going[children[here] >= 0]
        total += forest["depths"][node]
    return total
