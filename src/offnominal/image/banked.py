"""Image detectors that compare with a memory bank of normal rows."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from offnominal.image.detector import ImageBatch
from offnominal.image.encoded import EncodedImageDetector
from offnominal.normality import CoresetBuffer, NearestRows


class BankedImageDetector(EncodedImageDetector):
    """Base of image detectors whose normality is a coreset of rows.

    A method has the constructor argument ``bank_size`` beside those of `EncodedImageDetector`, and says which
    rows a batch gives and how much of them is held while learning.

    Attributes
    ----------
    bank_ : ndarray (m, d) of float32
        The memory bank.
    """

    bank_size: int

    bank_: npt.NDArray[np.float32]
    _buffer: CoresetBuffer
    _search: NearestRows

    def _rows(self, batch: ImageBatch) -> npt.NDArray[np.float32]:
        """Rows (n, d) of a batch, to learn from."""
        raise TypeError(f"{type(self).__name__} does not say which rows it keeps")

    def _empty_buffer(self) -> CoresetBuffer:
        """Buffer of an empty learning state."""
        raise TypeError(f"{type(self).__name__} does not say how much it holds while learning")

    def _begin(self) -> None:
        self._buffer = self._empty_buffer()

    def _absorb(self, batch: ImageBatch) -> None:
        self._buffer.absorb(self._rows(batch))

    def _merge(self, other: Self) -> None:
        if other._buffer.reduced:  # rows were given up, so a summary is as good as what is left, and small
            other._buffer.compact()
        self._buffer.merge(other._buffer)

    def _compact(self) -> None:
        # As many rows as the bank will have: no part's covering radius then exceeds the whole's.
        self._buffer.compact(self.bank_size)

    def _finish(self) -> None:
        self.bank_ = self._buffer.finish()
        del self._buffer
        self._restored()

    def _resume(self) -> None:
        self._begin()
        self._buffer.absorb(self.bank_)

    def _pause(self) -> dict[str, npt.NDArray[Any]]:
        return self._buffer.state()

    def _unpause(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self._buffer = CoresetBuffer.restore(arrays)

    def _restored(self) -> None:
        self._search = NearestRows(self.bank_, precision=self.precision)
