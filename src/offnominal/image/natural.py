"""Natural images that are not of the product: what a network must not learn to explain."""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource
from offnominal.core.source import Source
from offnominal.data import images, open_source, resize, to_rgb

INSTALLED = "photographs"
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
LEAST = 0.3


class NaturalImages:
    """Square cut-outs of natural images, at random.

    Parameters
    ----------
    where : path or "photographs"
        What the image reader takes, a folder as a rule; "photographs" are those that come with scikit-image.
    side : int
        Of the cut-outs, in pixels.

    Raises
    ------
    BadSource
        There is no image.
    """

    def __init__(self, where: str | os.PathLike[str], side: int) -> None:
        self.side = side
        self._source: Source = open_source(where, "image") if where != INSTALLED else _installed()
        if not len(self._source):
            raise BadSource(f"{where}: there is no natural image to train with; name a folder that has some")

    def draw(self, count: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
        """Cut-outs (count, side, side, 3) in 0…255: 30 to 100 % of the shorter side of a random image."""
        return np.stack([self._one(random) for _ in range(count)])

    def _one(self, random: np.random.Generator) -> npt.NDArray[np.float32]:
        image = to_rgb(self._source.read(int(random.integers(len(self._source)))).value)
        if image.dtype != np.uint8:
            low, high = float(image.min()), float(image.max())
            image = (image - low) * (255.0 / max(high - low, 1e-9))
        shorter = min(image.shape[:2])
        cut = max(1, round(shorter * random.uniform(LEAST, 1.0)))
        y, x = (int(random.integers(length - cut + 1)) for length in image.shape[:2])
        return resize(image[y : y + cut, x : x + cut], (self.side, self.side))


@cache
def _installed() -> Source:
    """The photographs in memory, decoded once a process."""
    folder = files("skimage.data")
    found = images([str(folder.joinpath(name)) for name in PHOTOGRAPHS if folder.joinpath(name).is_file()])
    return images([found.read(position).value for position in range(len(found))])
