"""Which table detector: a look at the normal rows, a few rules, and why.

The rules come from ``benchmarks/table_default.py`` (ranks) and ``benchmarks/speed_table.py`` (time).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from offnominal.core.errors import BadSource
from offnominal.core.plan import Plan
from offnominal.core.seeds import generator

LOOKED_AT = 2_000
"""Rows that are read for the fingerprint."""

MANY = 100_000
"""Rows from which a search among all of them takes longer than most wait."""


@dataclass(frozen=True)
class Fingerprint:
    """What was seen of normal rows.

    Attributes
    ----------
    items : int
        Rows there are.
    looked_at : int
        Rows that were read.
    numbers, words : int
        Columns of numbers (dates count as such), and of words.
    missing : float
        Share of the rows that lack a value.
    """

    items: int
    looked_at: int
    numbers: int
    words: int
    missing: float


def fingerprint(source: Any, seed: int = 0) -> Fingerprint:
    """Look at some of the normal rows of a source.

    Parameters
    ----------
    source : TableSource
    seed : int
        Chooses which are read.

    Raises
    ------
    BadSource
        There is no row.
    """
    normal = np.flatnonzero(source.labels != 1)
    if not len(normal):
        raise BadSource(f"{source.name}: no usable row to plan by")
    chosen = np.sort(generator(seed, "planner").permutation(len(normal))[:LOOKED_AT])
    rows = source.rows(normal[chosen])
    lacking = np.isnan(rows.numbers).any(axis=1) | (rows.words == None).any(axis=1)  # noqa: E711
    return Fingerprint(
        items=len(source),
        looked_at=len(chosen),
        numbers=rows.numbers.shape[1],
        words=rows.words.shape[1],
        missing=round(float(lacking.mean()), 3),
    )


def plan(found: Fingerprint) -> Plan:
    """Choose by the rules.

    Parameters
    ----------
    found : Fingerprint
        As `fingerprint` gives it.
    """
    columns = f"{found.numbers} columns of numbers, {found.words} of words"
    because = [f"{found.items} row{'s' if found.items != 1 else ''}, {columns}."]
    if found.items > MANY:
        detector = "gmm"
        because.append(
            f"More than {MANY} rows: a Gaussian mixture ranks among the first, and its time for a row does "
            "not grow with the rows it learned from."
        )
    else:
        detector = "knn"
        because.append(
            "Distances to the nearest normal rows rank first on the sets measured, and name columns."
        )
    if found.missing:
        because.append(
            f"{found.missing:.1%} of the rows lack values and are left out; --set missing=impute keeps them."
        )
    return Plan("table", detector, {}, tuple(because), asdict(found))
