"""Streaming moments of rows, exact to merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt


class Moments:
    """Count, mean, scatter and the fourth moment that Ledoit–Wolf shrinkage needs, in double precision.

    The shrinkage asks for Σ‖x − μ‖⁴ about the final mean. From one pass it follows exactly by keeping, about
    the mean so far, the scatter S = Σ c cᵀ, the vector Σ‖c‖²c and the number Σ‖c‖⁴ with c = x − μ: each has a
    closed form under a change of μ.

    Notes
    -----
    Source: pairwise update of Chan, Golub & LeVeque 1983, extended here to the two higher moments.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = np.zeros(width)
        self.scatter = np.zeros((width, width))
        self.third = np.zeros(width)
        self.fourth = 0.0

    def absorb(self, rows: npt.NDArray[np.floating]) -> Self:
        """Add rows (n, width)."""
        for first in range(0, len(rows), 4096):
            block = rows[first : first + 4096].astype(np.float64)
            part = Moments(block.shape[1])
            part.count = len(block)
            part.mean = block.mean(axis=0)
            block -= part.mean
            part.scatter = block.T @ block
            squared = np.einsum("ij,ij->i", block, block)
            part.third = squared @ block
            part.fourth = float(squared @ squared)
            self.merge(part)
        return self

    def merge(self, other: Moments) -> Self:
        """Add another's rows."""
        count = self.count + other.count
        if not other.count:
            return self
        step = (other.mean - self.mean) * (other.count / count)
        mine, theirs = self._about(step), other._about(self.mean + step - other.mean)
        self.mean = self.mean + step
        self.count = count
        self.scatter, self.third, self.fourth = (a + b for a, b in zip(mine, theirs, strict=True))
        return self

    def _about(self, step: npt.NDArray[np.float64]) -> tuple[Any, Any, float]:
        """Scatter, third and fourth moment about the mean moved by ``step``.

        With c' = c − s and Σc = 0: ‖c'‖² = ‖c‖² − 2 s·c + ‖s‖².
        """
        n, length = self.count, float(step @ step)
        trace = float(np.trace(self.scatter))
        turned = self.scatter @ step
        scatter = self.scatter + n * np.outer(step, step)
        third = self.third - 2 * turned - step * (trace + n * length)
        fourth = self.fourth - 4 * float(step @ self.third) + 4 * float(step @ turned) + 2 * length * trace
        return scatter, third, fourth + n * length**2

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything there is, as arrays."""
        return {
            "count": np.array([self.count], np.int64),
            "mean": self.mean,
            "scatter": self.scatter,
            "third": self.third,
            "fourth": np.array([self.fourth]),
        }

    @classmethod
    def restore(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Moments from what `state` returned."""
        moments = cls(len(state["mean"]))
        moments.count = int(state["count"][0])
        moments.mean, moments.scatter = np.array(state["mean"]), np.array(state["scatter"])
        moments.third, moments.fourth = np.array(state["third"]), float(state["fourth"][0])
        return moments
