"""Connected regions of masks, as runs of pixels joined by union-find: no label image, no scipy.

A mask is cut into horizontal runs, runs that touch in neighbouring rows are joined. All steps work on whole
arrays, over as many masks at once as the caller hands in; the cost follows the number of runs, not of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Positions = NDArray[np.intp]


@dataclass(frozen=True)
class Runs:
    """Horizontal runs of the true pixels of one mask, in raster order.

    Attributes
    ----------
    row, start, stop : ndarray of intp, shape (r,)
        Row, first column and column after the last.
    shape : (int, int)
        Height and width of the mask.
    """

    row: Positions
    start: Positions
    stop: Positions
    shape: tuple[int, int]


def find_runs(mask: NDArray[np.bool_]) -> Runs:
    """Cut a two-dimensional bool mask into its horizontal runs."""
    height, width = mask.shape
    # One false pixel before the mask and one after each row, so that no run crosses the end of a row.
    padded = np.zeros(1 + height * (width + 1), dtype=np.bool_)
    padded[1:].reshape(height, width + 1)[:, :width] = mask
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    begin, end = changes[0::2], changes[1::2]
    row = begin // (width + 1)
    first = row * (width + 1)
    return Runs(row, begin - first, end - first, (height, width))


def join_runs(masks: Sequence[Runs]) -> tuple[Positions, int]:
    """Say for each run, over all masks in order, which 8-connected region it belongs to.

    Returns
    -------
    region : ndarray of intp, shape (total runs,)
        Regions are numbered from 0 in raster order of their first pixel, mask after mask.
    count : int
        Number of regions.
    """
    if not masks:
        return np.zeros(0, dtype=np.intp), 0
    heights = np.asarray([runs.shape[0] for runs in masks])
    # Masks are stacked with an empty row between them, rows are laid out with a stride no run can bridge.
    tops = np.concatenate(([0], np.cumsum(heights + 1)[:-1]))
    stride = max(runs.shape[1] for runs in masks) + 2
    line = np.concatenate([(runs.row + top) * stride for runs, top in zip(masks, tops, strict=True)])
    start = line + np.concatenate([runs.start for runs in masks])
    stop = line + np.concatenate([runs.stop for runs in masks])
    # Touching below, corners included: the run there starts at or before our stop and stops at or after our
    # start.
    lowest = np.searchsorted(stop, start + stride, side="left")
    beyond = np.searchsorted(start, stop + stride, side="right")
    touching = np.maximum(beyond - lowest, 0)
    above = np.repeat(np.arange(len(line)), touching)
    below = spread(lowest, touching)
    root = _roots(len(line), above, below)
    is_root = root == np.arange(len(line))
    number = np.cumsum(is_root) - 1
    return number[root], int(np.count_nonzero(is_root))


def spread(first: Positions, length: Positions) -> Positions:
    """Concatenate the ranges ``first[i], …, first[i] + length[i] - 1``."""
    before = np.cumsum(length) - length
    return np.repeat(first - before, length) + np.arange(int(length.sum()))


def label_regions(mask: ArrayLike) -> tuple[NDArray[np.int32], int]:
    """Label the 8-connected regions of a mask.

    Parameters
    ----------
    mask : array_like, shape (H, W)
        Non-zero = anomalous.

    Returns
    -------
    labels : ndarray of int32, shape (H, W)
        0 outside, 1 … count inside, in raster order of each region's first pixel.
    count : int
        Number of regions.

    Raises
    ------
    ValueError
        The mask is not two-dimensional.
    """
    marked = np.asarray(mask) != 0
    if marked.ndim != 2:
        raise ValueError(f"a mask must be two-dimensional to have regions, got shape {marked.shape}")
    runs = find_runs(marked)
    region, count = join_runs([runs])
    labels = np.zeros(marked.shape, dtype=np.int32)
    length = runs.stop - runs.start
    at = spread(runs.row * marked.shape[1] + runs.start, length)
    labels.ravel()[at] = np.repeat(region + 1, length)
    return labels, count


def _roots(nodes: int, left: Positions, right: Positions) -> Positions:
    """Smallest node of each node's component.

    Each round hangs every root that has a smaller neighbouring root under the smallest of them and flattens
    the trees. At least half of the roots that still have an edge go in a round, so rounds are logarithmic.
    """
    parent = np.arange(nodes)
    while True:
        a, b = parent[left], parent[right]
        apart = a != b
        if not apart.any():
            return parent
        left, right = a[apart], b[apart]
        np.minimum.at(parent, np.maximum(left, right), np.minimum(left, right))
        while True:
            higher = parent[parent]
            if np.array_equal(higher, parent):
                break
            parent = higher
