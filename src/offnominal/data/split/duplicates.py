"""Clusters of near-duplicates: images that show the same part again, and must not be split apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.data.resizing import resize

_SIDE = 24
_NEAR, _FAR = 10, 40
_BLOCK = 16 << 20  # distances held at a time


def thumbnail(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Grey thumbnail (24, 24) of an image (H, W, C): the mean of all channels, in the image's own range."""
    small = resize(image, (_SIDE, _SIDE))
    grey: npt.NDArray[np.float32] = small.mean(axis=2, dtype=np.float32)
    return grey


def near_duplicate_groups(
    thumbnails: npt.NDArray[Any], *, ratio: float = 0.4, largest: int | None = None
) -> npt.NDArray[np.intp]:
    """Group images that are far more alike than the spread of the set explains.

    Parameters
    ----------
    thumbnails : ndarray (n, h, w)
        Small pictures of one scale.
    ratio : float, default 0.4
        Two images are near-duplicates where each is among the other's nearest and their distance is below
        this share of the nearest-neighbour distance expected at either of them.
    largest : int, optional
        Most images in a group, default a tenth of all and at least 2: a chain of look-alikes must not
        become one group that no split can divide.

    Returns
    -------
    ndarray (n,) of int
        Group numbers from 0, in order of first appearance.

    Notes
    -----
    The criterion is relative, so good parts that all look alike do not collapse into one group. The
    expected distance comes from farther neighbours, which duplicates do not disturb: around an item, the
    distance to the k-th neighbour grows as k^(1/D) for data of dimension D, so D is read off the 10th and
    40th neighbours and the law is followed back to k = 1. Runs longer than ten images (video frames) pass
    for spread; name their group in a manifest instead.
    """
    n = len(thumbnails)
    if n < 2:
        return np.zeros(n, dtype=np.intp)
    rows = np.asarray(thumbnails, dtype=np.float32).reshape(n, -1)
    near = min(_NEAR, max(1, n // 2))
    far = min(_FAR, n - 1)
    index, distance = _neighbours(rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32), far)
    reach = distance[:, near - 1]
    expected = reach * near ** (-1 / _dimension(reach, distance[:, far - 1], near, far))
    order = np.repeat(np.arange(n), near)
    other = index[:, :near].ravel()
    apart = distance[:, :near].ravel()
    close = (order < other) & ((apart < ratio * np.minimum(expected[order], expected[other])) | (apart == 0))
    close[close] = [i in index[j, :near] for i, j in zip(order[close], other[close], strict=True)]
    edges = np.flatnonzero(close)
    edges = edges[np.argsort(apart[edges], kind="stable")]
    cap = max(2, n // 10) if largest is None else largest
    return _join(n, order[edges], other[edges], cap)


def _dimension(near: npt.NDArray[np.float64], far: npt.NDArray[np.float64], first: int, second: int) -> float:
    """Intrinsic dimension from the distances to two orders of neighbours, 1 to 50."""
    usable = (near > 0) & (far > near)
    if second <= first or not usable.any():
        return 50.0
    growth = float(np.median(np.log(far[usable] / near[usable])))
    return float(np.clip(math.log(second / first) / growth, 1.0, 50.0))


def _neighbours(
    rows: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Nearest k others of each row: indices (n, k) and distances (n, k), ascending."""
    n = len(rows)
    squares = (rows * rows).sum(axis=1)
    index = np.empty((n, k), dtype=np.intp)
    distance = np.empty((n, k))
    step = max(1, min(1024, _BLOCK // n))
    for start in range(0, n, step):
        stop = min(start + step, n)
        rough = squares[None] - 2 * (rows[start:stop] @ rows.T)
        rough[np.arange(stop - start), np.arange(start, stop)] = np.inf
        best = np.argpartition(rough, k - 1, axis=1)[:, :k] if k < n else np.argsort(rough, axis=1)[:, :k]
        for row in range(start, stop):  # again in float64: the quick form cancels where images are alike
            exact = np.sqrt(((rows[best[row - start]] - rows[row]).astype(np.float64) ** 2).sum(axis=1))
            ranks = np.lexsort((best[row - start], exact))
            index[row] = best[row - start][ranks]
            distance[row] = exact[ranks]
    return index, distance


def _join(
    n: int, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp], cap: int
) -> npt.NDArray[np.intp]:
    """Union of edges, nearest first, as long as no group grows beyond ``cap``."""
    parent = list(range(n))
    size = [1] * n

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        a, b = root(a), root(b)
        if a != b and size[a] + size[b] <= cap:
            parent[b] = a
            size[a] += size[b]
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(node), len(numbers)) for node in range(n)], dtype=np.intp)
