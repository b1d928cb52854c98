"""Drift between two samples: each column is tested, and the false calls among the columns are bounded."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem, BadItems, BadSource
from offnominal.core.seeds import generator
from offnominal.decide.discovery import benjamini_hochberg, benjamini_yekutieli
from offnominal.decide.inputs import Floats, check_groups, check_rate

FEWEST = 5
"""Fewest items of a sample (groups where they come in groups)."""
_EXACT = 500  # up to so many items Kolmogorov's law is summed, beyond it is taken at its limit
_SHUFFLES = 999
_AT_ONCE = 4_000_000  # numbers held while shuffling
_STEPS = 500  # where groups are shuffled, distribution functions are compared at so many quantiles at most


class Drift(NamedTuple):
    """What the comparison of two samples says of each column.

    Attributes
    ----------
    names : list of d str
    distance : (d,) float64
        In [0, 1]: largest difference of the two distribution functions (numbers), half the sum of the
        differences of the shares (words).
    p_value : (d,) float64
        Chance of such a distance without drift.
    adjusted : (d,) float64
        Lowest false-discovery rate at which the column counts as drifted.
    drifted : (d,) bool
        ``adjusted <= q``.
    """

    names: list[str]
    distance: Floats
    p_value: Floats
    adjusted: Floats
    drifted: npt.NDArray[np.bool_]


def drift_test(
    reference: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    new: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    *,
    q: float = 0.05,
    groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    block: int = 1,
    any_dependence: bool = False,
    seed: int = 0,
) -> Drift:
    """Test whether two samples come from one distribution, column by column.

    Parameters
    ----------
    reference, new : (n,) scores, (n, d) numbers, or mapping of names to columns
        The same columns. NaN is a value of its own, below all others, so that a change in how often values
        are missing shows. Columns of text (or other objects) are compared by the shares of their values.
    q : float, default 0.05
        Of the columns called drifted, the expected share that are not.
    groups : pair of sequences, optional
        Group of each item of the reference and of the new sample; items of one group (patient, lot, day) are
        alike, and whole groups are shuffled. A group is in one of the samples only.
    block : int, default 1
        Where items come in order and neighbours are alike: so many in a row make a group.
    any_dependence : bool, default False
        Bound the false calls under any dependence between columns (Benjamini and Yekutieli), at the price of
        some that are found; else Benjamini and Hochberg's, proven for independent and positively dependent
        ones.
    seed : int, default 0
        Of the shuffling.

    Returns
    -------
    Drift

    Raises
    ------
    BadSource, BadItems
        Columns differ or are too short, or numbers are infinite.

    Notes
    -----
    Numbers without groups: Kolmogorov and Smirnov's test, exact up to 500 items; ties make it err on the low
    side. Words, and whatever comes in groups: the same distance, (chi-square for words), against shuffles of
    the items or groups, of which there are as many as the smallest p-value that could matter needs. Blocks of
    a series are exchangeable nearly, not exactly.

    References
    ----------
    Rabanser, Günnemann and Lipton, Failing loudly: an empirical study of methods for detecting dataset shift,
    NeurIPS 2019.
    """
    check_rate(q, "q")
    first, second = _columns(reference), _columns(new)
    if list(first) != list(second):
        raise BadSource(f"the columns differ: {', '.join(first)} and {', '.join(second)}")
    sizes = [len(next(iter(columns.values()))) for columns in (first, second)]
    members = _members(groups, block, sizes)
    counts = [n if m is None else int(m.max()) + 1 for n, m in zip(sizes, members, strict=True)]
    if min(counts) < FEWEST:
        raise BadSource(
            f"each sample needs at least {FEWEST} items (or groups) that count, got {min(counts)}"
        )
    shuffles = max(_SHUFFLES, math.ceil(2 * len(first) / q))
    distances, p_values = np.empty(len(first)), np.empty(len(first))
    for at, name in enumerate(first):
        a, b = first[name], second[name]
        if (a.dtype == object) != (b.dtype == object):
            raise BadSource(f"column {name}: numbers in one sample, words in the other")
        # the same shuffles for all columns
        random = generator(seed, "drift")
        joined = np.concatenate([a, b])
        values, codes = np.unique(joined.astype(str) if a.dtype == object else joined, return_inverse=True)
        named = a.dtype == object
        shares = [np.bincount(part, minlength=len(values)) for part in (codes[: sizes[0]], codes[sizes[0] :])]
        gaps = shares[0] / sizes[0] - shares[1] / sizes[1]
        distances[at] = np.abs(gaps).sum() / 2 if named else np.abs(np.cumsum(gaps)).max()
        if members[0] is not None and members[1] is not None:
            p_values[at] = _shuffled_groups(codes, members[0], members[1], shuffles, named, random)
        elif named:
            p_values[at] = _shuffled_words(shares[0], shares[1], shuffles, random)
        else:
            p_values[at] = _kolmogorov(a, b)
    control = benjamini_yekutieli if any_dependence else benjamini_hochberg
    drifted, adjusted = control(p_values, q)
    return Drift(list(first), distances, p_values, adjusted, drifted)


def _columns(sample: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
    if isinstance(sample, Mapping):
        named = {str(name): _column(values, str(name)) for name, values in sample.items()}
    else:
        matrix = np.asarray(sample)
        if matrix.ndim == 1:
            named = {"score": _column(matrix, "score")}
        elif matrix.ndim == 2:
            named = {str(at): _column(matrix[:, at], str(at)) for at in range(matrix.shape[1])}
        else:
            raise BadSource(f"a sample is (n,) or (n, d), got shape {matrix.shape}")
    if not named or len({len(values) for values in named.values()}) != 1:
        raise BadSource("a sample needs at least one column, and columns of one length")
    return named


def _column(values: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    column = np.asarray(values)
    if column.ndim != 1:
        raise BadSource(f"column {name}: one value an item, shape (n,), got shape {column.shape}")
    if column.dtype.kind not in "bifu":
        return column.astype(object)
    numbers = column.astype(np.float64)
    bad = np.flatnonzero(np.isinf(numbers))
    if len(bad):
        raise BadItems([BadItem(f"{name} at position {i}", f"is {numbers[i]}", "leave it out") for i in bad])
    return np.where(np.isnan(numbers), -np.inf, numbers)


def _members(
    groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None, block: int, sizes: list[int]
) -> list[npt.NDArray[np.intp] | None]:
    """Group of each item of both samples; None where each stands for itself."""
    if block < 1 or (block > 1 and groups is not None):
        raise ValueError("block must be at least 1, and is for items without groups")
    if block > 1:
        # what is left over joins the last block, so that none is short
        return [np.minimum(np.arange(n) // block, max(n // block - 1, 0)) for n in sizes]
    if groups is None:
        return [None, None]
    found = [check_groups(part, n) for part, n in zip(groups, sizes, strict=True)]
    if found[0] is None and found[1] is None:
        return [None, None]
    shared = {name for name in groups[0] if name is not None} & set(groups[1])
    if shared:
        raise BadSource(f"group {next(iter(shared))!r} is in both samples; a group belongs to one of them")
    return [np.arange(n) if part is None else part for part, n in zip(found, sizes, strict=True)]


def _kolmogorov(a: Floats, b: Floats) -> float:
    from scipy.stats import ks_2samp

    method = "exact" if max(len(a), len(b)) <= _EXACT else "asymp"
    return float(min(ks_2samp(a, b, method=method).pvalue, 1.0))


def _shuffled_words(
    old: npt.NDArray[np.intp], new: npt.NDArray[np.intp], shuffles: int, random: np.random.Generator
) -> float:
    """p-value of chi-square among shuffles of the items: how many of each value fall to the new sample."""
    both = old + new
    draws = random.multivariate_hypergeometric(both, int(new.sum()), size=shuffles, method="marginals")
    observed, drawn = (
        ((part - both * new.sum() / both.sum()) ** 2 / both).sum(axis=-1) for part in (new, draws)
    )
    return float((1 + np.count_nonzero(drawn >= observed * (1 - 1e-9))) / (shuffles + 1))


def _shuffled_groups(
    codes: npt.NDArray[np.intp],
    first: npt.NDArray[np.intp],
    second: npt.NDArray[np.intp],
    shuffles: int,
    named: bool,
    random: np.random.Generator,
) -> float:
    """p-value of the distance among shuffles of whole groups over the two samples."""
    member = np.concatenate([first, second + first.max() + 1])
    n_groups, n_first = int(member.max()) + 1, int(first.max()) + 1
    values = int(codes.max()) + 1
    if not named and values > _STEPS:
        ranks = np.cumsum(np.bincount(codes)) - 1
        codes = (ranks * _STEPS // len(codes))[codes]
        values = _STEPS
    counts = np.zeros((n_groups, values))
    np.add.at(counts, (member, codes), 1)
    total, sizes = counts.sum(axis=0), counts.sum(axis=1)

    def distance(in_first: npt.NDArray[np.bool_]) -> Floats:
        """Distance (s,) of each way (s, groups) of dealing the groups out."""
        ours = in_first @ counts
        n = in_first @ sizes
        gaps = ours / n[:, None] - (total - ours) / (sizes.sum() - n)[:, None]
        if named:
            squares: Floats = (gaps**2 / np.maximum(total, 1)).sum(axis=1) * n * (sizes.sum() - n)
            return squares
        apart: Floats = np.abs(np.cumsum(gaps, axis=1)).max(axis=1)
        return apart

    observed = distance((np.arange(n_groups) < n_first)[None])[0]
    reached, step = 0, max(1, _AT_ONCE // max(counts.shape))
    for begin in range(0, shuffles, step):
        ranks = random.random((min(step, shuffles - begin), n_groups)).argsort(axis=1)
        reached += int(np.count_nonzero(distance(ranks < n_first) >= observed * (1 - 1e-9)))
    return (1 + reached) / (shuffles + 1)
