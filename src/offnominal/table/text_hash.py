"""Text as hashed character trigrams: numbers without a vocabulary."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_LONGEST = 4_096


def hashed_trigrams(texts: Sequence[str | None], width: int) -> npt.NDArray[np.float64]:
    """Count the character trigrams of texts in hashed bins, each text scaled to length 1.

    Parameters
    ----------
    texts : sequence of str or None
        Case does not count; None and the empty text are zeros. Only the first 4 096 characters are read.
    width : int
        Bins.

    Returns
    -------
    ndarray (n, width)

    Notes
    -----
    The hash's lowest bit gives the sign, so that collisions cancel on average (Weinberger et al., Feature
    Hashing for Large Scale Multitask Learning, ICML 2009).
    """
    counts = np.zeros((len(texts), width))
    for row, text in enumerate(texts):
        if not text:
            continue
        data = f"  {text[:_LONGEST].lower()} "
        for first in range(len(data) - 2):
            code = zlib.crc32(data[first : first + 3].encode("utf-8", "surrogatepass"))
            counts[row, (code >> 1) % width] += 1.0 if code & 1 else -1.0
    lengths = np.sqrt((counts**2).sum(axis=1, keepdims=True))
    scaled: npt.NDArray[np.float64] = counts / np.maximum(lengths, 1e-300)
    return scaled
