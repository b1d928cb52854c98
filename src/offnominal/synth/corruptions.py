"""Shifts of a whole image that make it no anomaly: light, contrast, focus, sensor noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.seeds import generator

CORRUPTIONS = ("brightness", "contrast", "blur", "noise")
SEVERITIES = (1, 2, 3, 4, 5)

# The published constants of ImageNet-C, in shares of the range of pixel values; the blur's standard deviation
# is in pixels at a side of 224 and grows with the image.
_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
_SIDE = 224


def corrupt(
    image: npt.NDArray[Any], kind: str, severity: int, *, seed: int = 0, high: float | None = None
) -> npt.NDArray[Any]:
    """Shift an image.

    Parameters
    ----------
    image : ndarray (H, W, C)
        Never modified.
    kind : str
        One of `CORRUPTIONS`.
    severity : int
        1 to 5.
    seed : int, default 0
        Of the noise.
    high : float, optional
        Top of the range of pixel values; default that of the type, for floats the image's own maximum.

    Returns
    -------
    ndarray (H, W, C)
        Of the image's type, cut off at 0 and ``high`` (floats: at their own minimum).

    Raises
    ------
    ValueError
        There is no such kind or severity.

    Notes
    -----
    Source: Hendrycks and Dietterich, ICLR 2019 (kinds and constants; brightness is added to all channels
    alike here, and the blur is Gaussian).
    """
    if kind not in CORRUPTIONS or severity not in SEVERITIES:
        raise ValueError(
            f"no corruption {kind!r} of severity {severity!r}; there are {', '.join(CORRUPTIONS)}, "
            "each of severity 1 to 5"
        )
    whole = np.issubdtype(image.dtype, np.integer)
    if high is None:
        high = float(np.iinfo(image.dtype).max) if whole else float(image.max())
    low = 0.0 if whole else float(image.min())
    step = severity - 1
    values = image.astype(np.float64)
    if kind == "brightness":
        values += _BRIGHTER[step] * (high - low)
    elif kind == "contrast":
        middle = values.mean(axis=(0, 1))
        values = middle + _CONTRAST[step] * (values - middle)
    elif kind == "blur":
        from scipy.ndimage import gaussian_filter

        sigma = _BLUR[step] * max(image.shape[:2]) / _SIDE
        values = gaussian_filter(values, (sigma, sigma, 0))
    else:
        random = generator(seed, "corruption", kind, str(severity))
        values += random.normal(0.0, _NOISE[step] * (high - low), values.shape)
    values = np.clip(values, low, high)
    return (np.rint(values) if whole else values).astype(image.dtype)
