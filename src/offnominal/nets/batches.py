"""What a training goes through: mini-batches whose order depends on the seed and the epoch alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Batches:
    """Batches of every epoch.

    Attributes
    ----------
    per_epoch : int
        Batches in an epoch, at least 1.
    draw : callable
        ``draw(epoch, random)`` yields the epoch's ``per_epoch`` batches. All chance must come from ``random``
        (or from torch, which is seeded alike): an epoch can then be drawn again after a kill.
    """

    per_epoch: int
    draw: Callable[[int, np.random.Generator], Iterable[Any]]


def minibatches(
    count: int,
    size: int,
    take: Callable[[npt.NDArray[np.intp], np.random.Generator], Any],
    *,
    least: int = 1,
) -> Batches:
    """Cut items into mini-batches, shuffled anew each epoch.

    Parameters
    ----------
    count : int
        Number of items, at least ``least``.
    size : int
        Items a batch.
    take : callable
        ``take(indices, random)`` returns the batch of the items at ``indices`` (≤ size,): arrays, tensors, or
        tuples, lists, dicts of these. Random augmentation draws from ``random``.
    least : int, default 1
        A rest of fewer items is left out of the epoch, as batch normalisation wants 2; it is drawn into
        another place the next time.

    Raises
    ------
    ValueError
        Fewer items than ``least``, or a batch smaller than that.
    """
    if count < max(least, 1) or size < max(least, 1):
        raise ValueError(f"{count} items in batches of {size}, a batch needs at least {max(least, 1)}")
    rest = count % size
    per_epoch = count // size if rest < least else math.ceil(count / size)

    def draw(epoch: int, random: np.random.Generator) -> Iterator[Any]:
        order = random.permutation(count)
        for number in range(per_epoch):
            yield take(order[number * size : (number + 1) * size], random)

    return Batches(per_epoch, draw)
