"""Where the anomalous pixels of a benchmark image are written down: a picture, boxes, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadItem

BoolArray = npt.NDArray[np.bool_]


class Mask(Protocol):
    """Knows the anomalous pixels of one image."""

    def read(self, image: Path) -> BoolArray:
        """Return the mask (H, W) at the size of ``image``; raises `BadItem` where it does not fit."""


def size_of(image: Path) -> tuple[int, int]:
    """Height and width of an image, from its header."""
    from PIL import Image

    with Image.open(image) as opened:
        return opened.height, opened.width


@dataclass(frozen=True, slots=True)
class NoAnomaly:
    """The image is normal: no pixel is anomalous."""

    def read(self, image: Path) -> BoolArray:
        """Return an empty mask (H, W)."""
        return np.zeros(size_of(image), dtype=bool)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the size of the image.

    Parameters
    ----------
    path : Path
        The picture.
    colour : tuple of three int, optional
        RGB colour of the anomalous pixels; without it every pixel that is not zero is anomalous.
    """

    path: Path
    colour: tuple[int, int, int] | None = None

    def read(self, image: Path) -> BoolArray:
        """Return the mask (H, W); raises `BadItem` where its size is not the image's."""
        from PIL import Image

        with Image.open(self.path) as opened:
            if self.colour is not None:
                mask = (np.asarray(opened.convert("RGB")) == np.array(self.colour, np.uint8)).all(axis=2)
            else:
                mask = np.asarray(opened) != 0
                mask = mask.any(axis=2) if mask.ndim == 3 else mask
        if mask.shape != (size := size_of(image)):
            raise BadItem(str(self.path), f"mask is {mask.shape}, its image {size}", "restore the data set")
        return np.asarray(mask, dtype=bool)


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes ``(x0, y0, x1, y1)`` in pixels, half-open; all pixels of a box count as anomalous."""

    boxes: tuple[tuple[int, int, int, int], ...]

    def read(self, image: Path) -> BoolArray:
        """Return the union of the boxes as a mask (H, W)."""
        mask = np.zeros(size_of(image), dtype=bool)
        for x0, y0, x1, y1 in self.boxes:
            mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
        return mask
