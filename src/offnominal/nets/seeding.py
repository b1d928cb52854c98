"""Torch's randomness, held to one seed for the length of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from offnominal.core.seeds import generator


@contextlib.contextmanager
def seeded(seed: int, *names: str) -> Iterator[None]:
    """Draw torch's random numbers from a named stream; the process's own stream goes on untouched after.

    Make networks inside it, so that their first weights depend on the method's seed alone::

        with seeded(self.seed, "network"):
            network = Decoder(...)

    Parameters
    ----------
    seed : int
        The user's seed, not negative.
    *names : str
        What the stream is for, as in `core.seeds.generator`.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(int(generator(seed, "torch", *names).integers(2**63)))
        yield
