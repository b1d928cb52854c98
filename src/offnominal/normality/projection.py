"""A random linear projection that keeps distances (Johnson–Lindenstrauss)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from offnominal.core.seeds import generator


class RandomProjection:
    """A seeded Gaussian projection to few dimensions.

    A pair's distance is kept within a relative error of about ``1 / sqrt(2 * outputs)`` (one standard
    deviation), whatever the number of inputs.

    Parameters
    ----------
    inputs : int
        Width of the rows, C.
    outputs : int, default 128
        Width after projection, P. Rows no wider than this are left as they are.
    seed : int, default 0

    Notes
    -----
    Source: Johnson & Lindenstrauss 1984; used before coreset selection by Roth et al., CVPR 2022, Sec. 3.2.
    """

    block = 16_384

    def __init__(self, inputs: int, outputs: int = 128, *, seed: int = 0) -> None:
        if inputs < 1 or outputs < 1:
            raise ValueError(f"a projection needs positive widths, got {inputs} to {outputs}")
        self.matrix: npt.NDArray[np.float32] | None = None
        if outputs < inputs:
            drawn = generator(seed, "projection", f"{inputs}x{outputs}").standard_normal((inputs, outputs))
            self.matrix = (drawn / np.sqrt(outputs)).astype(np.float32)

    def __call__(
        self, rows: npt.NDArray[np.floating] | Sequence[npt.NDArray[np.floating]]
    ) -> npt.NDArray[np.float32]:
        """Project rows (n, C), or a sequence of blocks of rows, to (n, min(C, P)), float32, a new array."""
        blocks = [rows] if isinstance(rows, np.ndarray) else rows
        width = blocks[0].shape[1] if self.matrix is None else self.matrix.shape[1]
        projected = np.empty((sum(map(len, blocks)), width), np.float32)
        done = 0
        for block in blocks:
            for start in range(0, len(block), self.block):
                piece = block[start : start + self.block]
                into = projected[done : done + len(piece)]
                if self.matrix is None:
                    into[:] = piece
                else:
                    np.matmul(piece.astype(np.float32, copy=False), self.matrix, out=into)
                done += len(piece)
        return projected
