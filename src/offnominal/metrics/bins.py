"""Histogram bins over all float32 values, finer where the scores are.

The bit pattern of a float32 orders the numbers of one sign. Its upper 16 bits select a cell, and each cell
is cut into a power of two of equal bins of bit patterns: 1 at first, up to 65 536, when a bin holds one
single number. So any finite scores fit, of any scale, without a look at them beforehand; where too many
scores share a bin, its cell is cut finer, and what was counted before is spread evenly over the new bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offnominal.metrics.counts import Floats

CELLS = 1 << 16
WHOLE = 16
# Finer than this is not needed for 1e-4, and larger tables fall out of the cache.
MOST_BINS = 1 << 18
# Pixels looked up at a time: the working arrays stay in the cache.
STRETCH = 1 << 16


class FloatBins:
    """Bins over the float32 numbers, in the order of their bit patterns (negative numbers last, falling)."""

    def __init__(self) -> None:
        self._shift = np.full(CELLS, WHOLE, dtype=np.int64)
        self._rebuild()
        self._located = np.empty(0, dtype=np.intp)
        self._value = np.empty(STRETCH, dtype=np.float32)
        self._cell = np.empty(STRETCH, dtype=np.intp)
        self._low = np.empty(STRETCH, dtype=np.uint32)
        self._entry = np.empty(STRETCH, dtype=np.uint32)
        self._cut = np.empty(STRETCH, dtype=np.uint32)

    def __len__(self) -> int:
        return self._total

    def locate(self, values: NDArray[np.float32]) -> NDArray[np.intp]:
        """Bin of each of ``values`` (n,); the array is written over by the next call."""
        # One array kept: fresh memory costs more to touch than the look-up itself.
        if len(self._located) < len(values):
            self._located = np.empty(len(values), dtype=np.intp)
        out = self._located[: len(values)]
        for begin in range(0, len(values), STRETCH):
            part = values[begin : begin + STRETCH]
            n = len(part)
            low, cell = self._low[:n], self._cell[:n]
            entry, cut = self._entry[:n], self._cut[:n]
            np.add(part, np.float32(0.0), out=self._value[:n])  # -0.0 becomes 0.0, with which it ties
            code = self._value[:n].view(np.uint32)
            np.right_shift(code, 16, out=low)
            np.copyto(cell, low, casting="unsafe")
            np.take(self._table, cell, out=entry, mode="clip")
            np.bitwise_and(code, 0xFFFF, out=low)
            np.bitwise_and(entry, 31, out=cut)
            np.right_shift(low, cut, out=low)
            np.right_shift(entry, 5, out=entry)
            np.add(low, entry, out=low)
            np.copyto(out[begin : begin + n], low, casting="unsafe")
        return out

    def refine(self, counts: Floats, heavy: float, aim: float) -> NDArray[np.intp] | None:
        """Cut the cells finer in which a bin of more than one number holds more than ``heavy``.

        Parameters
        ----------
        counts : ndarray, shape (len(self),)
            What each bin holds.
        heavy, aim : float
            A bin above ``heavy`` is cut so that, evenly filled, its parts hold at most ``aim``.

        Returns
        -------
        ndarray of intp, shape (former length,), or None
            Into how many bins each former bin was cut; None if nothing can or need be cut.
        """
        full = np.flatnonzero(counts > heavy)
        cells = np.searchsorted(self._first, full, side="right") - 1
        divisible = self._shift[cells] > 0
        full, cells = full[divisible], cells[divisible]
        if len(full) == 0:
            return None
        wanted = np.zeros(CELLS, dtype=np.int64)
        np.maximum.at(wanted, cells, np.ceil(np.log2(counts[full] / aim)).astype(np.int64))
        for most in range(WHOLE, 0, -1):
            levels = np.minimum(np.minimum(wanted, most), self._shift)
            if int((1 << (WHOLE - self._shift + levels)).sum()) <= MOST_BINS:
                break
        else:
            return None
        parts = np.repeat(1 << levels, 1 << (WHOLE - self._shift))
        self._shift = self._shift - levels
        self._rebuild()
        return parts.astype(np.intp)

    def rising(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Bins in the order of rising numbers, and the least number of each."""
        inside = 1 << (WHOLE - self._shift)
        cell = np.repeat(np.arange(CELLS), inside)
        part = np.arange(self._total) - self._first[cell]
        least = (cell << 16) + (part << self._shift[cell])
        # For negative numbers a larger pattern is a smaller number: the least is the last pattern of the bin.
        least += np.where(cell >= CELLS // 2, (1 << self._shift[cell]) - 1, 0)
        numbers = least.astype(np.uint32).view(np.float32)
        negative = int(self._first[CELLS // 2])
        order = np.concatenate([np.arange(self._total - 1, negative - 1, -1), np.arange(negative)])
        return order.astype(np.intp), numbers[order]

    def _rebuild(self) -> None:
        inside = np.int64(1) << (WHOLE - self._shift)
        ends = np.cumsum(inside)
        self._first = ends - inside
        self._total = int(ends[-1])
        # First bin and shift in one number: one look-up a pixel instead of two.
        self._table = ((self._first << 5) | self._shift).astype(np.uint32)
