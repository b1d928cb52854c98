"""Pixel values as an encoder takes them: three channels, 0…255."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

_DEPTHS = (8, 10, 12, 14, 16)
_MARGIN = 0.1


def to_rgb(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring an image to three channels, losing none.

    Parameters
    ----------
    image : ndarray (H, W, C)

    Returns
    -------
    ndarray (H, W, 3)
        ``uint8`` where the image is (means are rounded), else ``float32``. One channel is repeated, three
        stay, two are first, mean and second; four and more are cut into three runs of neighbours, as equal
        as can be with the longer ones first, each averaged.
    """
    channels = image.shape[2]
    whole = image.dtype == np.uint8
    if not whole:
        image = np.asarray(image, dtype=np.float32)
    if channels == 3:
        return image
    if channels == 1:
        return np.repeat(image, 3, axis=2)
    runs = [image[..., :1], image, image[..., 1:]] if channels == 2 else np.array_split(image, 3, axis=2)
    means = np.stack([run.mean(axis=2, dtype=np.float32) for run in runs], axis=2)
    return np.rint(means).astype(np.uint8) if whole else means


@dataclass(frozen=True, slots=True)
class PixelRange:
    """The range of pixel values that is spread over 0…255; fixed when a model is fitted.

    Attributes
    ----------
    low, high : float
        Values that become 0 and 255.
    """

    low: float
    high: float

    @classmethod
    def of(cls, kinds: Iterable[str], low: float, high: float) -> Self:
        """Choose the range for training images.

        Parameters
        ----------
        kinds : iterable of str
            Types met: ``"uint8"``, ``"uint16"``, ``"float32"``.
        low, high : float
            Least and greatest value met.

        Returns
        -------
        PixelRange
            Whole numbers: 0 to the top of the smallest depth of 8, 10, 12, 14 and 16 bits that holds
            ``high``. With floats: what was met, and a tenth of it more on either side, so that a brighter
            defect is not cut off.
        """
        met = set(kinds)
        if met <= {"uint8", "uint16"}:
            bits = next(depth for depth in _DEPTHS if high < 2**depth) if "uint16" in met else 8
            return cls(0.0, float(2**bits - 1))
        margin = _MARGIN * (high - low) or 0.5
        return cls(float(low - margin), float(high + margin))

    def apply(self, image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Scale to 0…255 as ``float32``; what lies outside the range is cut off."""
        scaled = np.asarray(image, dtype=np.float32) - np.float32(self.low)
        scaled *= np.float32(255.0 / (self.high - self.low))
        return np.clip(scaled, 0.0, 255.0, out=scaled)


def pixel_range(sample: Iterable[npt.NDArray[Any]]) -> PixelRange:
    """Choose the range from training images (`PixelRange.of`).

    Parameters
    ----------
    sample : iterable of ndarray (H, W, C)
        At least one.
    """
    facts = [(str(image.dtype), float(image.min()), float(image.max())) for image in sample]
    kinds, lows, highs = zip(*facts, strict=True)
    return PixelRange.of(kinds, min(lows), max(highs))
