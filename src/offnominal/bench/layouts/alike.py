"""Groups of images of a data set that are copies of one another, or nearly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

SIDE = 32


def copies(paths: Sequence[Path], correlation: float = 0.995) -> list[int]:
    """Number the groups of near-copies among images.

    Two images are near-copies where their grey 32 × 32 thumbnails correlate at least so much; groups are
    closed under that. Re-encoding, scaling and brightness do not hide a copy; pictures that only look alike
    stay below it (a brain slice and its nearest other slice: median 0.78, at most 0.994).

    Parameters
    ----------
    paths : sequence of Path
        The images.
    correlation : float, default 0.995
        Least Pearson correlation of two near-copies.

    Returns
    -------
    list of int
        Group of each image: the position of the group's first image.
    """
    from PIL import Image

    rows = np.empty((len(paths), SIDE * SIDE), dtype=np.float32)
    for at, path in enumerate(paths):
        with Image.open(path) as opened:
            rows[at] = np.asarray(
                opened.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32
            ).ravel()
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    first = list(range(len(paths)))

    def root(at: int) -> int:
        while first[at] != at:
            at = first[at]
        return at

    for at in range(len(paths)):
        for other in np.flatnonzero(rows[:at] @ rows[at] >= correlation):
            one, two = sorted((root(int(other)), root(at)))
            first[two] = one
    return [root(at) for at in range(len(paths))]
