"""Nearest rows of a memory bank: exact, at the speed of a low-precision matrix product."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import numpy.typing as npt

from offnominal.core.threads import budget
from offnominal.normality.approximate import InvertedLists, worth_approximating
from offnominal.normality.piece import BankPiece
from offnominal.normality.products import CompiledProducts, Precision, supports_bf16

_Found = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


class NearestRows:
    """Searches a fixed bank for the rows nearest to queries.

    Parameters
    ----------
    bank : ndarray of float32, shape (m, d)
    precision : {"auto", "fp32", "bf16"}, default "auto"
        Of the matrix product that proposes candidates; "auto" takes bf16 where the processor multiplies it
        natively. The answer is the same: candidates are all rows that the product's rounding cannot rule
        out, and they are ranked by exact differences.
    approximate : {"auto", True, False}, default "auto"
        Look only into the nearest lists of an inverted file (needs the extra ``faiss``). "auto" does so for
        banks of four million rows and more, where the extra is installed.
    threads : int, optional
        Default: the thread budget of the process.

    Raises
    ------
    ExtraMissing
        ``approximate=True`` and faiss is not installed.

    Notes
    -----
    Unless approximate, a query's result depends neither on the batch it comes in, nor on the number of
    threads, nor on the precision.
    """

    piece_rows = 16_384  # bank rows of one matrix product

    def __init__(
        self,
        bank: npt.NDArray[np.float32],
        *,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        approximate: Literal["auto"] | bool = "auto",
        threads: int | None = None,
    ) -> None:
        if bank.ndim != 2 or not bank.size:
            raise ValueError(f"a bank needs rows of shape (m, d), got {bank.shape}")
        if precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be 'auto', 'fp32' or 'bf16', got {precision!r}")
        self.bank = np.ascontiguousarray(bank, np.float32)
        if not np.isfinite(self.bank).all():
            raise ValueError("a bank needs finite rows; remove those with NaN or infinity first")
        self.precision = precision
        self.threads = threads or budget()
        if approximate == "auto":
            approximate = worth_approximating(len(bank))
        self._lists = InvertedLists(self.bank, self.threads) if approximate else None
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pieces: list[BankPiece] = []
        self._around: npt.NDArray[np.int64] | None = None

    @property
    def approximate(self) -> bool:
        """Whether some nearest rows may be missed."""
        return self._lists is not None

    def search(
        self, queries: npt.NDArray[np.floating], k: int = 1
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Find the k nearest bank rows of each query.

        Parameters
        ----------
        queries : ndarray, shape (q, d)
        k : int, default 1
            At most the number of bank rows.

        Returns
        -------
        distances : ndarray of float32, shape (q, k)
            Euclidean, ascending; NaN where the query is not finite, infinite where an approximate search
            found fewer.
        indices : ndarray of int64, shape (q, k)
            Rows of the bank, the lower one first among equals; −1 where there is no distance.
        """
        if queries.ndim != 2 or queries.shape[1] != self.bank.shape[1]:
            raise ValueError(f"queries must have shape (q, {self.bank.shape[1]}), got {queries.shape}")
        if not 1 <= k <= len(self.bank):
            raise ValueError(f"k must be between 1 and the {len(self.bank)} bank rows, got {k}")
        queries = np.ascontiguousarray(queries, np.float32)
        distances = np.full((len(queries), k), np.nan, np.float32)
        indices = np.full((len(queries), k), -1, np.int64)

        def look(first: int) -> None:
            block = queries[first : first + CompiledProducts.block]
            usable = np.flatnonzero(np.isfinite(block).all(axis=1))
            if len(usable):
                squared, rows = self._nearest(block[usable], k)
                distances[first + usable] = np.sqrt(squared)
                indices[first + usable] = rows

        firsts = range(0, len(queries), CompiledProducts.block)
        side_by_side = self._lists is None and self._prepared()[0].products.one_core
        if self.threads > 1 and len(firsts) > 1 and side_by_side:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self.threads)
            list(self._pool.map(look, firsts))
        else:
            for first in firsts:
                look(first)
        return distances, indices

    def bank_neighbours(self, k: int) -> npt.NDArray[np.int64]:
        """Indices (m, k) of each bank row's k nearest bank rows, itself among them; computed once."""
        if self._around is None or self._around.shape[1] < k:
            self._around = self.search(self.bank, k)[1]
        return self._around[:, :k]

    def _nearest(
        self, queries: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        if self._lists is not None:
            proposed = self._lists.propose(queries, k)
            owner, place = np.nonzero(proposed >= 0)
            return _first_of_each([self._ranked(queries, owner, proposed[owner, place])], len(queries), k)
        found: list[_Found] = []
        best = np.full((len(queries), k), np.inf)
        first = 0
        for piece in self._prepared():
            candidates = piece.candidates(queries, k)
            seeds = self._ranked(queries, *_moved(candidates.seeds(), first))
            found.append(seeds)
            best = _first_of_each([_table(best), seeds], len(queries), k)[0]
            owner, row = _moved(candidates.others(best[:, -1]), first)
            known = np.isin(owner * len(self.bank) + row, seeds[0] * len(self.bank) + seeds[1])
            found.append(self._ranked(queries, owner[~known], row[~known]))
            first += len(piece.rows)
        return _first_of_each(found, len(queries), k)

    def _prepared(self) -> list[BankPiece]:
        """Pieces of the bank, made at the first search: compiling costs more than loading a model."""
        with self._lock:
            if not self._pieces:
                precision: Precision = "bf16" if self.precision == "bf16" else "fp32"
                if self.precision == "auto" and supports_bf16():
                    precision = "bf16"
                shift = self.bank.mean(axis=0, dtype=np.float64).astype(np.float32)
                self._pieces = [
                    BankPiece(self.bank[first : first + self.piece_rows], shift, precision, self.threads)
                    for first in range(0, len(self.bank), self.piece_rows)
                ]
            return self._pieces

    def _ranked(
        self, queries: npt.NDArray[np.float32], owner: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
    ) -> _Found:
        """Pairs with their squared distances by differences: no cancellation, zero for a row to itself."""
        squared = np.empty(len(owner))
        step = max(1, 2**19 // queries.shape[1])
        for first in range(0, len(owner), step):
            part = slice(first, first + step)
            apart = (queries[owner[part]] - self.bank[row[part]]).astype(np.float64)
            squared[part] = np.einsum("ij,ij->i", apart, apart)
        return owner, row, squared


def _moved(
    pairs: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], first: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return pairs[0], pairs[1] + first


def _table(best: npt.NDArray[np.float64]) -> _Found:
    """Distances (q, k) as pairs, without their rows."""
    owner = np.repeat(np.arange(len(best)), best.shape[1])
    return owner, np.full(len(owner), -1), best.ravel()


def _first_of_each(
    found: list[_Found], queries: int, k: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Squared distances and rows (q, k) of each query's k best pairs, ties by row number."""
    owner, row, squared = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((row, squared, owner))
    owner, row, squared = owner[order], row[order], squared[order]
    place = np.arange(len(owner)) - np.searchsorted(owner, np.arange(queries))[owner]
    kept = place < k
    values = np.full((queries, k), np.inf)
    rows = np.full((queries, k), -1, np.int64)
    values[owner[kept], place[kept]] = squared[kept]
    rows[owner[kept], place[kept]] = row[kept]
    return values, rows
