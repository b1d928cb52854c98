"""What would have to be different: the smallest change that makes a row normal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource, NoDecisionError
from offnominal.core.source import Source
from offnominal.core.threads import blas_threads
from offnominal.data.tables import Rows
from offnominal.table.nearest_rows import NearRows, encode, nearest_rows

if TYPE_CHECKING:
    from offnominal.table.detector import TableDetector

DONORS = 10
"""Normal rows whose values are tried."""
TRIED = 64
"""Columns tried at a time, those that differ most first."""
HALVINGS = 10


@dataclass(frozen=True)
class Change:
    """One column of a row, as it is and as it would have to be.

    Attributes
    ----------
    column : str
    value, becomes : float or str or None
        Dates in seconds since 1970.
    """

    column: str
    value: Any
    becomes: Any


@dataclass(frozen=True)
class Counterfactual:
    """A row that would be normal.

    Attributes
    ----------
    changes : tuple of Change
        Empty where the row is normal as it is.
    score : float
        Of the changed row.
    like : str or None
        The normal row whose values the changes come from.
    """

    changes: tuple[Change, ...]
    score: float
    like: str | None


def counterfactual(
    detector: TableDetector, row: Source, normals: Source, near: NearRows | None = None
) -> Counterfactual | None:
    """Change few columns of a row, as little as is needed, until the detector calls it normal.

    Parameters
    ----------
    detector : TableDetector
        Fitted, with a decision that gives verdicts.
    row : TableSource
        One row.
    normals : TableSource
        Normal rows with the same columns; see `nearest_rows`.
    near : NearRows, optional
        What `nearest_rows` found for the row, `DONORS` of them; searched where it is not given.

    Returns
    -------
    Counterfactual or None
        None where not even a near normal row as a whole is called normal.

    Raises
    ------
    NoDecisionError
        The detector gives no verdicts.
    BadItem, BadSource
        As `nearest_rows`.

    Notes
    -----
    Each of the `DONORS` nearest normal rows lends its values: at each step the column whose value lowers the
    score most, until the verdict is normal; then columns that turn out not to be needed are given back, and
    numbers are moved back towards the row by bisection as far as the verdict allows (whole numbers stay
    whole: they are exchanged, not moved). Of the rows found the one with the fewest changes is returned,
    the least moved of those. Nothing but scores is asked of the detector. It is a search from donors, not an
    exact minimum.

    Values that occur together in normal rows are more plausible than values found by following a gradient,
    and the search needs no gradient (Wachter, Mittelstadt and Russell 2017; Mothilal, Sharma and Tan, FAT*
    2020, on why few and plausible changes).
    """
    search = _Search(detector, row.references[0].product if len(row) else None)
    near = near or nearest_rows(detector, row, normals, DONORS)
    with blas_threads():
        return search.smallest(near)


class _Search:
    def __init__(self, detector: TableDetector, product: str | None) -> None:
        self.detector, self.product = detector, product

    def smallest(self, near: NearRows) -> Counterfactual | None:
        own = near.row
        score, normal = self._judge(own)
        if normal[0]:
            return Counterfactual((), float(score[0]), None)
        best: tuple[tuple[int, float], Rows, str] | None = None
        for at, item in enumerate(near.items):
            found = self._towards(own, near.rows.take(slice(at, at + 1)), near.rows)
            if found is None:
                continue
            changed = np.flatnonzero(_different(own, found))
            moved, _ = encode(self.detector, found)
            size = (len(changed), float(np.abs(moved - near.matrix).sum()))
            if best is None or size < best[0]:
                best = size, found, item
        if best is None:
            return None
        _, found, item = best
        changes = [
            Change(own.columns[place].name, _cell(own, place), _cell(found, place))
            for place in np.flatnonzero(_different(own, found)).tolist()
        ]
        return Counterfactual(tuple(changes), float(self._judge(found)[0][0]), item)

    def _towards(self, own: Rows, donor: Rows, donors: Rows) -> Rows | None:
        """The row with few of the donor's values, just normal; None where all of them do not suffice."""
        if not self._judge(donor)[1][0]:
            return None
        taken: list[int] = []
        current = own
        while not self._judge(current)[1][0]:
            open_places = self._ranked(current, donor)
            if not len(open_places):
                return None
            tries = _with(current, donor, [[place] for place in open_places])
            chosen = int(open_places[int(np.argmin(self._judge(tries)[0]))])
            taken.append(chosen)
            current = _with(current, donor, [[chosen]])
        for place in list(taken):
            rest = [other for other in taken if other != place]
            fewer = _with(own, donor, [rest])
            if rest and self._judge(fewer)[1][0]:
                taken, current = rest, fewer
        return self._moved_back(own, current, donors)

    def _moved_back(self, own: Rows, changed: Rows, donors: Rows) -> Rows:
        """Numbers moved towards the row while the verdict stays normal."""
        whole = (donors.numbers == np.rint(donors.numbers)).all(axis=0) & (
            own.numbers[0] == np.rint(own.numbers[0])
        )
        free = ~whole & np.isfinite(own.numbers[0]) & np.isfinite(changed.numbers[0])
        free &= own.numbers[0] != changed.numbers[0]
        if not free.any():
            return changed
        low, high, best = 0.0, 1.0, changed  # shares of the way
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            numbers = changed.numbers.copy()
            start = own.numbers[0, free]
            numbers[0, free] = start + middle * (changed.numbers[0, free] - start)
            tried = Rows(changed.columns, numbers, changed.words, changed.named)
            if self._judge(tried)[1][0]:
                high, best = middle, tried
            else:
                low = middle
        return best

    def _ranked(self, current: Rows, donor: Rows) -> npt.NDArray[np.intp]:
        """Columns in which the two differ, the most different first, at most `TRIED`."""
        places = np.flatnonzero(_different(current, donor))
        if len(places) <= TRIED:
            return places
        (one, _), (two, _) = encode(self.detector, current), encode(self.detector, donor)
        apart = self.detector.encoding.fold(np.abs(one - two))[0]
        return places[np.argsort(-apart[places], kind="stable")][:TRIED]

    def _judge(self, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Scores of rows and whether they are called normal; rows that cannot be encoded are not."""
        if self.detector.decision_ is None:
            raise NoDecisionError(
                f"{self.detector.card.name} has no decision; call calibrate with normal rows"
            )
        matrix, bad = encode(self.detector, rows)
        scores = np.asarray(self.detector._score_rows(matrix), np.float64)
        scores[list(bad)] = np.inf
        finite = np.where(np.isfinite(scores), scores, np.finfo(np.float64).max)
        verdicts = self.detector.decision_.judge(finite, [self.product] * len(finite))
        if (verdicts.anomalous < 0).any():
            raise NoDecisionError(verdicts.note or "the decision gives no verdict; calibrate with more rows")
        return scores, verdicts.anomalous == 0


def _places(rows: Rows) -> list[tuple[bool, int]]:
    """Of each column whether it is a number, and its place among its kind."""
    counts = [0, 0]
    found = []
    for column in rows.columns:
        found.append((column.is_number, counts[column.is_number]))
        counts[column.is_number] += 1
    return found


def _different(one: Rows, two: Rows) -> npt.NDArray[np.bool_]:
    """Of each column whether two single rows differ in it; missing values are equal."""
    if len(one) != 1 or len(two) != 1:
        raise BadSource("rows are compared one with one")
    missing = np.isnan(one.numbers[0]) & np.isnan(two.numbers[0])
    numbers = (one.numbers[0] != two.numbers[0]) & ~missing
    words = np.asarray(one.words[0] != two.words[0], bool)
    return np.array([numbers[at] if number else words[at] for number, at in _places(one)], bool)


def _with(row: Rows, donor: Rows, choices: list[list[int]]) -> Rows:
    """A row once for each choice, with the donor's values in the columns chosen."""
    numbers = np.repeat(row.numbers, len(choices), axis=0)
    words = np.repeat(row.words, len(choices), axis=0)
    places = _places(row)
    for line, choice in enumerate(choices):
        for place in choice:
            number, at = places[place]
            into, source = (numbers, donor.numbers) if number else (words, donor.words)
            into[line, at] = source[0, at]
    return Rows(row.columns, numbers, words, row.named)


def _cell(row: Rows, place: int) -> Any:
    number, at = _places(row)[place]
    value = (row.numbers if number else row.words)[0, at]
    if not number:
        return value
    return None if np.isnan(value) else float(value)
