"""From a map to the places a person should look at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offnominal.core.detections import Region

NEIGHBOURS = np.ones((3, 3), dtype=bool)


def regions(
    map: npt.NDArray[np.floating],
    threshold: float,
    *,
    most: int = 10,
    least: int | None = None,
) -> tuple[Region, ...]:
    """Find the connected places of a map that lie above a threshold.

    Parameters
    ----------
    map : ndarray (H, W), float
        Higher = more anomalous. NaN counts as below the threshold.
    threshold : float
        A pixel belongs to a region when its value is strictly above it.
    most : int, default 10
        At most so many regions are returned, those of the highest scores.
    least : int, optional
        Regions of fewer pixels are dropped as noise, except the one that holds the largest value of the
        map, so that an item above the threshold always has a place. By default a 5000th part of the map.

    Returns
    -------
    tuple of Region
        Kind ``box``: ``where`` is ``[x0, y0, x1, y1]`` in pixels, half-open; ``score`` the largest value in
        the region. Sorted by falling score, then from top to bottom and left to right. Pixels that touch
        by an edge or a corner are connected.

    Raises
    ------
    ValueError
        The map does not have two dimensions.
    """
    values = np.asarray(map)
    if values.ndim != 2:
        raise ValueError(f"a map has two dimensions, not {values.ndim}: give one map at a time")
    above = values > threshold
    if not above.any():
        return ()
    from scipy import ndimage

    labels, count = ndimage.label(above, structure=NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    peaks = np.asarray(ndimage.maximum(values, labels, np.arange(1, count + 1)), dtype=np.float64)
    if least is None:
        least = values.size // 5000
    kept = np.flatnonzero((sizes >= least) | (peaks == peaks.max()))
    boxes = ndimage.find_objects(labels)
    found = []
    for place in kept[np.argsort(-peaks[kept], kind="stable")][:most]:
        rows, columns = boxes[place]
        where = [int(columns.start), int(rows.start), int(columns.stop), int(rows.stop)]
        found.append(Region("box", where, float(peaks[place])))
    return tuple(found)
