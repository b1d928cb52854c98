"""Which numbers an image may hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.data.limits import RefusalError


def known_numbers(image: npt.NDArray[Any], bits: int | None = None) -> npt.NDArray[Any]:
    """Keep ``uint8`` and ``uint16``, make bits 0 and 255, and every other real number ``float32``.

    Fewer than eight ``bits`` a sample are spread over 0…255.
    """
    kind = image.dtype.kind
    if kind == "b" or bits == 1:
        spread: npt.NDArray[np.uint8] = image.astype(np.uint8) * np.uint8(255)
        return spread
    if image.dtype == np.uint8:
        if bits is not None and bits < 8:
            image = (image.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)
        return image
    if image.dtype in (np.dtype(">u2"), np.dtype("<u2")):
        return image.astype(np.uint16)
    if kind not in "iuf":
        raise RefusalError(f"holds values of type {image.dtype}", "convert it to uint8, uint16 or float32")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and infinities are refused
        return image.astype(np.float32)


def finite(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Refuse a float image that holds NaN or infinities, naming how many."""
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        nans = int(np.isnan(image).sum())
        infinities = int(np.isinf(image).sum())
        parts = [f"{count:,} {word}" for count, word in ((nans, "NaN"), (infinities, "infinite")) if count]
        raise RefusalError(
            f"holds {' and '.join(parts)} value(s) of {image.size:,}", "replace them by a value you choose"
        )
    return np.ascontiguousarray(image)
