"""Fitting an encoding: one pass over the training rows, in blocks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from offnominal.core.seeds import generator
from offnominal.data.tables import Column, Rows
from offnominal.table.encoding import EncodedColumn, Encoding, Missing, Scaling

SAMPLE = 100_000
"""Rows from which medians and quartiles are taken; all of them where there are fewer."""
LEVELS = 32
"""Categories with a column of their own."""
TEXT = 64
"""Bins of hashed text."""
_DISTINCT = 100_000  # different words that are counted before rare ones are dropped
_HUGE = 1e140  # squares of what is counted stay finite
_QUARTILES = 1.3489795  # the normal distribution's interquartile range, in standard deviations


class EncodingFit:
    """Collects what an encoding needs.

    Parameters
    ----------
    columns : tuple of Column
    named : bool
    scaling : {"standard", "robust", "none"}
        Numbers by mean and standard deviation, by median and interquartile range, or as they are.
    missing : {"refuse", "impute"}
        Whether a row with a missing value is refused, or gets the median (a level of its own, for words) and
        a column that says so.
    total : int
        Rows to come.
    seed : int
    """

    def __init__(
        self,
        columns: tuple[Column, ...],
        named: bool,
        *,
        scaling: Scaling,
        missing: Missing,
        total: int,
        seed: int,
    ) -> None:
        self.columns = columns
        self.named = named
        self.scaling = scaling
        self.missing = missing
        width = sum(column.is_number for column in columns)
        self._count = np.zeros(width)
        self._mean = np.zeros(width)
        self._scatter = np.zeros(width)
        self._lost = np.zeros(width, dtype=bool)
        self._sampled: list[npt.NDArray[np.float64]] = []
        self._share = min(1.0, SAMPLE / max(total, 1))
        self._random = generator(seed, "table", "encoding")
        self._words: list[Counter[str]] = [Counter() for column in columns if not column.is_number]

    def absorb(self, rows: Rows) -> dict[int, str]:
        """Add rows; return those that cannot be used, and why."""
        plain = Encoding(
            tuple(EncodedColumn(column.name, column.kind) for column in self.columns),
            self.missing,
            self.named,
        )
        numbers = np.asarray(rows.numbers, dtype=np.float64)
        bad: dict[int, str] = {}
        with np.errstate(invalid="ignore", over="ignore"):
            suspect = not np.isfinite(numbers.sum())
        if suspect or rows.words.shape[1]:
            order = plain.order(rows.columns, rows.named, "table")
            bad = plain.apply(Rows(rows.columns, rows.numbers, rows.words, rows.named), order)[1]
        if bad:
            kept = np.setdiff1d(np.arange(len(rows)), list(bad))
            rows, numbers = rows.take(kept), numbers[kept]
        if not len(numbers):
            return bad
        if suspect or (numbers.size and max(numbers.max(), -numbers.min()) > _HUGE):
            numbers = np.clip(numbers, -_HUGE, _HUGE)
        self._count_numbers(numbers, suspect)
        if self._needs_sample():
            part = numbers
            if self._share < 1:
                part = numbers[self._random.random(len(numbers)) < self._share]
            self._sampled.append(np.array(part, dtype=np.float64))
        for place, counter in enumerate(self._words):
            counter.update(word for word in rows.words[:, place].tolist() if word is not None)
            if len(counter) > _DISTINCT:
                self._words[place] = Counter(dict(counter.most_common(_DISTINCT // 2)))
        return bad

    def _needs_sample(self) -> bool:
        return self.scaling == "robust" or self.missing == "impute"

    def _count_numbers(self, numbers: npt.NDArray[np.float64], holes: bool) -> None:
        """Pairwise update of count, mean and scatter (Chan, Golub & LeVeque 1983)."""
        if holes:
            there = ~np.isnan(numbers)
            self._lost |= ~there.all(axis=0)
            count = there.sum(axis=0).astype(np.float64)
            mean = np.where(there, numbers, 0).sum(axis=0) / np.maximum(count, 1)
            scatter = (np.where(there, numbers - mean, 0) ** 2).sum(axis=0)
        else:
            count = np.full(numbers.shape[1], float(len(numbers)))
            mean = numbers.mean(axis=0)
            apart = numbers - mean
            scatter = np.einsum("ij,ij->j", apart, apart)
        whole = np.maximum(self._count + count, 1)
        step = mean - self._mean
        self._scatter += scatter + step**2 * (self._count * count / whole)
        self._mean += step * (count / whole)
        self._count += count

    def finish(self) -> Encoding:
        """Return the encoding."""
        with np.errstate(over="ignore"):
            centre = self._mean.copy()
            deviation = np.sqrt(self._scatter / np.maximum(self._count, 1))
        middle = centre
        scale = deviation
        if self._needs_sample() and len(centre):
            sample = np.concatenate(self._sampled) if self._sampled else np.zeros((1, len(centre)))
            low, middle, high = _quartiles(sample)
            if self.scaling == "robust":
                spread = (high - low) / _QUARTILES
                centre, scale = middle, np.where(spread > 0, spread, deviation)
        if self.scaling == "none":
            centre, scale = np.zeros_like(centre), np.ones_like(scale)
        else:
            # A column that never varied has no unit: its own size stands in, so that a change still shows.
            still = scale <= 1e-12 * np.maximum(np.abs(centre), 1e-280)
            scale = np.where(still, np.maximum(np.abs(centre), 1.0), scale)
        found: list[EncodedColumn] = []
        number = word = 0
        for column in self.columns:
            if column.is_number:
                indicated = self.missing == "impute" and bool(self._lost[number])
                found.append(
                    EncodedColumn(
                        column.name,
                        column.kind,
                        centre=float(centre[number]),
                        scale=float(scale[number]),
                        fill=float(middle[number]) if self.missing == "impute" else 0.0,
                        indicated=indicated,
                        width=2 if indicated else 1,
                    )
                )
                number += 1
                continue
            if column.kind == "text":
                found.append(EncodedColumn(column.name, "text", width=TEXT))
            else:
                ranked = sorted(self._words[word].items(), key=lambda entry: (-entry[1], entry[0]))
                levels = tuple(level for level, _ in ranked[:LEVELS])
                found.append(EncodedColumn(column.name, "category", levels=levels, width=len(levels) + 1))
            word += 1
        return Encoding(tuple(found), self.missing, self.named)


def _quartiles(sample: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Quartiles (3, d) of columns, missing values left out."""
    if not np.isnan(sample).any():
        return np.quantile(sample, (0.25, 0.5, 0.75), axis=0)
    found = np.zeros((3, sample.shape[1]))
    for place in range(sample.shape[1]):
        values = sample[:, place][~np.isnan(sample[:, place])]
        if len(values):
            found[:, place] = np.quantile(values, (0.25, 0.5, 0.75))
    return found
