"""A random linear projection that keeps distances (Johnson–Lindenstrauss)."""

from __future__ import annotations

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

    def __call__(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Project rows (n, C) to (n, min(C, P)), float32; always a new array."""
        width = rows.shape[1] if self.matrix is None else self.matrix.shape[1]
        projected = np.empty((len(rows), width), np.float32)
        for start in range(0, len(rows), self.block):
            piece = rows[start : start + self.block]
            if self.matrix is None:
                projected[start : start + self.block] = piece
            else:
                np.matmul(
                    piece.astype(np.float32, copy=False), self.matrix, out=projected[start:][: len(piece)]
                )
        return projected
