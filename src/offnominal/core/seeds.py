"""Independent, named random streams from one seed."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return a random generator for one purpose.

    Parameters
    ----------
    seed : int
        The user's seed, any non-negative number.
    *names : str
        What the stream is for; other names give statistically independent streams, so that adding a use
        of randomness somewhere never changes the numbers drawn elsewhere.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    words = np.frombuffer(hashlib.sha256("/".join(names).encode()).digest(), dtype=np.uint32)
    return np.random.default_rng(np.random.SeedSequence([seed, *map(int, words[:4])]))
