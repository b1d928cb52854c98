"""Random isolation trees: grown side by side, kept as flat arrays."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offnominal.core.threads import budget

Matrix = npt.NDArray[np.float64]
_CELLS = 1 << 24  # numbers held at a time while trees grow
_DRAWS = 8  # columns drawn for a node before all are looked at
_WORTH = 2_000_000  # trees × rows that are walked before compiling pays
_so_far = 0  # of them in this process
_SHARE = 2_048  # rows a thread is worth starting for


def grow(
    rows: Matrix, trees: int, sample: int, extension: int, random: np.random.Generator
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.intp]]:
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
    nodes : dict of ndarray
        For each node: ``columns`` (m, extension + 1) and ``weights`` of the split, its ``levels``, the left
        of its two neighbouring ``children`` (−1 in a leaf), ``depths``, the path length that a leaf stands
        for; and the ``roots``.
    drawn : ndarray (trees, size) of int
        Rows each tree was grown from.
    """
    size = min(sample, len(rows))
    at_once = max(1, _CELLS // max(size * rows.shape[1], 1))
    parts, drawn = [], []
    for first in range(0, trees, at_once):
        count = min(at_once, trees - first)
        chosen = np.stack([random.choice(len(rows), size, replace=False) for _ in range(count)])
        drawn.append(chosen)
        parts.append(_grow(rows[chosen.ravel()], count, size, extension, random))
    shifts = np.cumsum([0, *(len(part["levels"]) for part in parts)])
    for part, shift in zip(parts, shifts[:-1], strict=True):
        part["roots"] += shift
        part["children"][part["children"] >= 0] += shift
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, np.concatenate(drawn)


def _grow(
    rows: Matrix, trees: int, size: int, extension: int, random: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    """Trees on consecutive blocks of ``size`` rows, level by level."""
    width = min(extension + 1, rows.shape[1])
    limit = int(np.ceil(np.log2(max(size, 2))))
    at = np.arange(len(rows))  # rows that may still be split off
    node = np.repeat(np.arange(trees), size)  # where each of them is
    columns = [np.zeros((trees, width), np.int32)]
    weights = [np.zeros((trees, width))]
    levels = [np.zeros(trees)]
    children = [np.full(trees, -1, np.int32)]
    depths = [np.full(trees, _average_path(np.array([size]))[0])]
    owners = [np.arange(trees)]
    first = 0  # of the nodes of this level
    for depth in range(limit):
        order = np.argsort(node, kind="stable")
        at, node = at[order], node[order]
        if not len(node):
            break
        starts = np.flatnonzero(np.concatenate([[True], node[1:] != node[:-1]]))
        columns_of = _picked(rows, at, starts, width, random)
        split = np.flatnonzero(columns_of.picked[:, 0] >= 0)
        if not len(split):
            break
        picked = np.maximum(columns_of.picked[split], 0)
        low, high = columns_of.low[split], columns_of.high[split]
        # In (low, high], so that on one column neither side is empty.
        drawn = high - random.random(high.shape) * (high - low)
        tilt = random.standard_normal(drawn.shape) if width > 1 else np.ones(drawn.shape)
        tilt *= columns_of.picked[split] >= 0  # a column that does not vary here has no say
        level = (tilt * drawn).sum(axis=1)

        rank = np.full(len(starts), -1)
        rank[split] = np.arange(len(split))
        mine = np.repeat(rank, np.diff(starts, append=len(node)))
        at, mine = at[mine >= 0], mine[mine >= 0]
        value = rows[at[:, None], picked[mine]]
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
        at, node, first = at[several], node[several], after
    nodes = {
        "columns": np.concatenate(columns),
        "weights": np.concatenate(weights),
        "levels": np.concatenate(levels),
        "children": np.concatenate(children),
        "depths": np.concatenate(depths),
    }
    return _tree_by_tree(nodes, np.concatenate(owners), trees)


class _Picked(NamedTuple):
    """For each node (m, width): columns that vary in it, −1 where there are no more; their range."""

    picked: npt.NDArray[np.intp]
    low: Matrix
    high: Matrix


def _picked(
    rows: Matrix,
    at: npt.NDArray[np.intp],
    starts: npt.NDArray[np.intp],
    width: int,
    random: np.random.Generator,
) -> _Picked:
    """Draw different columns for each node, among those that vary in it.

    One is drawn and looked at, and drawn again where it does not vary: looking at all columns costs as much
    as there are columns. Nodes where that does not help are looked at wholly.
    """
    nodes = len(starts)
    picked = np.full((nodes, width), -1)
    low, high = np.zeros((2, nodes, width))
    counts = np.diff(starts, append=len(at))
    for place in range(width):
        left = np.arange(nodes)
        for _ in range(_DRAWS):
            if not len(left):
                break
            column = random.integers(rows.shape[1], size=len(left))
            mine = _spans(starts[left], counts[left])
            values = rows[at[mine], np.repeat(column, counts[left])]
            firsts = np.cumsum(counts[left]) - counts[left]
            least, most = np.minimum.reduceat(values, firsts), np.maximum.reduceat(values, firsts)
            good = (most > least) & (picked[left] != column[:, None]).all(axis=1)
            done = left[good]
            picked[done, place], low[done, place], high[done, place] = column[good], least[good], most[good]
            left = left[~good]
        for node in left:
            held = rows[at[starts[node] : starts[node] + counts[node]]]
            least, most = held.min(axis=0), held.max(axis=0)
            varied = np.setdiff1d(np.flatnonzero(most > least), picked[node])
            if len(varied):
                column = varied[random.integers(len(varied))]
                picked[node, place], low[node, place], high[node, place] = column, least[column], most[column]
    return _Picked(picked, low, high)


def _spans(starts: npt.NDArray[np.intp], counts: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The places start, start + 1, … of several spans, after one another."""
    ends = np.cumsum(counts)
    found: npt.NDArray[np.intp] = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
    return found


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

    The compiled loop and numpy's give the same numbers. Compiling takes seconds, so that it is done once as
    much has been walked without.
    """
    trees, width = len(forest["roots"]), forest["columns"].shape[1]
    if _worth_compiling(len(rows) * trees * width):
        try:
            from offnominal.table import compiled
        except ImportError:
            pass
        else:
            return _compiled(compiled, forest, rows) / trees
    return _walked(forest, rows) / trees


def left_out_depths(forest: dict[str, npt.NDArray[Any]], drawn: npt.NDArray[np.intp], rows: Matrix) -> Matrix:
    """Mean path length (n,) of the training rows, each over the trees that were not grown from it.

    Parameters
    ----------
    forest : dict of ndarray
    drawn : ndarray (trees, size)
        As `grow` returned it.
    rows : ndarray (n, d)
        All training rows; each is left out by at least one tree.
    """
    trees, size = drawn.shape
    owners = drawn.ravel()
    node = np.repeat(forest["roots"], size)
    going = np.flatnonzero(forest["children"][node] >= 0)
    while len(going):
        node[going] = _stepped(forest, rows, owners[going], node[going])
        going = going[forest["children"][node[going]] >= 0]
    known = np.bincount(owners, forest["depths"][node], minlength=len(rows))
    counts = np.bincount(owners, minlength=len(rows))
    found: Matrix = (trees * mean_depths(forest, rows) - known) / (trees - counts)
    return found


def _stepped(
    forest: dict[str, npt.NDArray[Any]],
    rows: Matrix,
    at: npt.NDArray[np.intp],
    node: npt.NDArray[np.intp],
) -> npt.NDArray[np.intp]:
    """Children of inner nodes (m,) that rows ``at`` (m,) go to."""
    columns, weights = forest["columns"], forest["weights"]
    if columns.shape[1] == 1:
        value = rows[at, columns[node, 0]]
    else:
        value = np.zeros(len(at))
        for part in range(columns.shape[1]):  # in the compiled loop's order
            value += weights[node, part] * rows[at, columns[node, part]]
    found: npt.NDArray[np.intp] = forest["children"][node] + (value >= forest["levels"][node])
    return found


def _worth_compiling(steps: int) -> bool:
    global _so_far
    _so_far = min(_so_far + steps, _WORTH)
    return _so_far >= _WORTH


def _compiled(loops: Any, forest: dict[str, npt.NDArray[Any]], rows: Matrix) -> Matrix:
    inner = forest["children"] >= 0
    after = np.where(inner, forest["children"], np.arange(len(inner))).astype(np.uint32)
    levels = np.where(inner, forest["levels"], np.inf)
    total = np.empty(len(rows))
    rest = (levels, after, forest["depths"], forest["roots"].astype(np.uint32), _height(after, forest))
    columns = forest["columns"].astype(np.uint32)
    plain = columns.shape[1] == 1
    walk = loops.tree_depths if plain else loops.slanted_depths
    first = (np.ascontiguousarray(columns[:, 0]),) if plain else (columns, forest["weights"])
    threads = min(budget(), -(-len(rows) // _SHARE))
    if threads == 1:
        walk(rows, *first, *rest, total)
        return total
    edges = np.linspace(0, len(rows), threads + 1).astype(int)
    spans = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda span: walk(rows[span], *first, *rest, total[span]), spans))
    return total


def _height(after: npt.NDArray[np.uint32], forest: dict[str, npt.NDArray[Any]]) -> int:
    """Steps from a root to the deepest leaf."""
    level, steps = forest["roots"], 0
    while len(level := level[forest["children"][level] >= 0]):
        level = np.concatenate([after[level], after[level] + 1])
        steps += 1
    return steps


def _walked(forest: dict[str, npt.NDArray[Any]], rows: Matrix) -> Matrix:
    total = np.zeros(len(rows))
    for root in forest["roots"]:
        node = np.full(len(rows), root)
        going = np.arange(len(rows)) if forest["children"][root] >= 0 else np.empty(0, np.intp)
        while len(going):
            here = _stepped(forest, rows, going, node[going])
            node[going] = here
            going = going[forest["children"][here] >= 0]
        total += forest["depths"][node]
    return total
