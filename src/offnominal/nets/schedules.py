"""Learning rate by progress: functions of the share of training that is done.

A schedule takes the share of steps done, in [0, 1), and gives a factor on the optimiser's own learning rate.
It has no state, so a training that was killed has none to restore.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant(done: float) -> float:
    """The optimiser's own rate throughout."""
    return 1.0


def cosine(last: float = 0.0, warmup: float = 0.0) -> Schedule:
    """Rise linearly over a share of the steps, then fall along half a cosine.

    Parameters
    ----------
    last : float, default 0
        Factor at the end.
    warmup : float, default 0
        Share of the steps that rise, in [0, 1).
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be in [0, 1), got {warmup}")

    def factor(done: float) -> float:
        if done < warmup:
            return done / warmup
        through = (done - warmup) / (1 - warmup)
        return last + (1 - last) * (1 + math.cos(math.pi * through)) / 2

    return factor


def drops(*at: float, factor: float = 0.1) -> Schedule:
    """Multiply the rate by ``factor`` at each of the given shares: ``drops(0.95)``."""

    def product(done: float) -> float:
        return math.prod(factor for share in at if done >= share)

    return product
