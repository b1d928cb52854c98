"""A coreset of rows that stream by, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from offnominal.normality.coreset import greedy_coreset


class CoresetBuffer:
    """Keeps rows while they fit a budget, and a greedy summary of them when they do not.

    Parameters
    ----------
    budget_bytes : int
        Bytes of rows held. At least twice the rows of the result are held whatever the budget; with the
        work of a reduction, memory stays below about twice what is held.
    size : int
        Rows of the result.
    seed : int, default 0
    projection : int or None, default 128
        Width in which the selection measures distances; see `greedy_coreset`.

    Notes
    -----
    Until the budget is full nothing is lost, and the result is the greedy coreset of all rows. Then the
    rows held are reduced to a summary of ``summary`` times ``size`` rows (or half of what the budget holds),
    to which new rows are added: a row of the stream is never farther from a row kept than the sum of the
    covering radii of the reductions it went through.

    Source: merge and reduce of composable coresets, Indyk et al., PODS 2014.
    """

    summary = 2

    def __init__(self, budget_bytes: int, size: int, *, seed: int = 0, projection: int | None = 128) -> None:
        if budget_bytes < 1 or size < 1:
            raise ValueError(f"budget_bytes and size must be positive, got {budget_bytes} and {size}")
        self.budget_bytes = budget_bytes
        self.size = size
        self.seed = seed
        self.projection = projection
        #: rows absorbed so far
        self.seen = 0
        #: whether rows have been given up, so that the result is no longer the exact greedy one
        self.reduced = False
        self._held = 0
        self._blocks: list[npt.NDArray[np.float32]] = []

    def __len__(self) -> int:
        """Rows held now."""
        return self._held

    def absorb(self, rows: npt.NDArray[np.floating]) -> Self:
        """Add rows (n, d); they are copied."""
        if rows.ndim != 2 or not rows.shape[1]:
            raise ValueError(f"a coreset needs rows of shape (n, d), got {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("a coreset needs finite rows; remove those with NaN or infinity first")
        self._take(rows, copy=True)
        self.seen += len(rows)
        return self

    def merge(self, other: CoresetBuffer) -> Self:
        """Add what another buffer holds, as if its rows had come after these; the other is left as it is."""
        for block in other._blocks:
            self._take(block, copy=False)  # what is held is never written to, so both may hold it
        self.seen += other.seen
        self.reduced |= other.reduced
        return self

    def compact(self, rows: int | None = None) -> Self:
        """Reduce what is held to a summary, by default of the size used when the budget is full."""
        if not self._held:
            return self
        if rows is None:
            rows = self._summary(self._blocks[0].shape[1])
        if rows < 1:
            raise ValueError(f"a summary needs at least one row, got {rows}")
        if self._held > rows:
            self._blocks = [self._reduce(rows)]
            self._held = len(self._blocks[0])
            self.reduced = True
        return self

    def finish(self) -> npt.NDArray[np.float32]:
        """Return the coreset (at most ``size``, d), in the order of choice; the buffer stays usable.

        Raises
        ------
        ValueError
            No row was absorbed.
        """
        if not self._held:
            raise ValueError("a coreset needs at least one row; none was absorbed")
        return self._reduce(self.size)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything there is, as arrays."""
        projection = -1 if self.projection is None else self.projection
        settings = [self.budget_bytes, self.size, self.seed, projection, self.seen, int(self.reduced)]
        rows = np.concatenate(self._blocks) if self._blocks else np.empty((0, 0), np.float32)
        return {"rows": rows, "settings": np.array(settings, np.int64)}

    @classmethod
    def restore(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Buffer from what `state` returned."""
        budget_bytes, size, seed, projection, seen, reduced = (int(value) for value in state["settings"])
        buffer = cls(budget_bytes, size, seed=seed, projection=None if projection < 0 else projection)
        buffer.seen, buffer.reduced = seen, bool(reduced)
        if len(state["rows"]):
            buffer._blocks = [np.array(state["rows"], np.float32, order="C")]
            buffer._held = len(state["rows"])
        return buffer

    def _take(self, rows: npt.NDArray[np.floating], *, copy: bool) -> None:
        """Hold rows (n, d), reducing what is held where the budget is full."""
        if self._blocks and rows.shape[1] != self._blocks[0].shape[1]:
            raise ValueError(f"rows must stay {self._blocks[0].shape[1]} wide, got {rows.shape[1]}")
        capacity = self._capacity(rows.shape[1])
        while len(rows):
            if self._held >= capacity:
                self.compact()
            part, rows = rows[: capacity - self._held], rows[capacity - self._held :]
            self._blocks.append(np.array(part, np.float32, order="C", copy=copy or None))
            self._held += len(part)

    def _capacity(self, width: int) -> int:
        return max(self.budget_bytes // (4 * width), 2 * self.size)

    def _summary(self, width: int) -> int:
        return max(self.size, min(self.summary * self.size, self._capacity(width) // 2))

    def _reduce(self, rows: int) -> npt.NDArray[np.float32]:
        chosen = greedy_coreset(self._blocks, rows, seed=self.seed, projection=self.projection)
        starts = np.cumsum([0, *map(len, self._blocks)])
        owner = np.searchsorted(starts, chosen, side="right") - 1
        kept = np.empty((len(chosen), self._blocks[0].shape[1]), np.float32)
        for number, block in enumerate(self._blocks):
            mine = owner == number
            kept[mine] = block[chosen[mine] - starts[number]]
        return kept
