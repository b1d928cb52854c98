"""AugMix: several chains of simple changes, mixed with the image (Hendrycks et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Change = Callable[[Array, float, np.random.Generator], Array]

CHAINS, DEPTH = 3, 3


def augmix(view: Array, random: np.random.Generator, severity: float = 3.0) -> Array:
    """A changed view that still shows the same.

    Parameters
    ----------
    view : (h, w, 3) float32 array
        Pixels in 0…255; not modified.
    random : numpy Generator
    severity : float, default 3
        Largest level of a change, 0 to 10.

    Returns
    -------
    (h, w, 3) float32 array in 0…255
    """
    shares = random.dirichlet(np.ones(CHAINS))
    mixed = np.zeros_like(view, np.float32)
    for share in shares:
        changed = view
        for _ in range(int(random.integers(1, DEPTH + 1))):
            change = CHANGES[int(random.integers(len(CHANGES)))]
            changed = np.clip(change(changed, float(random.uniform(0.1, max(severity, 0.1))), random), 0, 255)
        mixed += np.float32(share) * changed
    kept = np.float32(random.beta(1.0, 1.0))
    return (kept * view + (1 - kept) * mixed).astype(np.float32)


def greyscale(views: Array) -> Array:
    """Views (…, 3) with all three channels at the luminance."""
    grey = views @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)


def _autocontrast(view: Array, level: float, random: np.random.Generator) -> Array:
    low, high = view.min(axis=(0, 1)), view.max(axis=(0, 1))
    flat = high - low < 1
    return np.where(flat, view, (view - low) * (255 / np.where(flat, 1, high - low)))


def _equalise(view: Array, level: float, random: np.random.Generator) -> Array:
    found = np.empty_like(view)
    for channel in range(view.shape[2]):
        values = np.clip(np.rint(view[..., channel]), 0, 255).astype(int)
        counts = np.bincount(values.ravel(), minlength=256)
        if np.count_nonzero(counts) < 2:
            return view
        below = np.cumsum(counts) - counts  # the lowest value goes to 0
        top = below[np.flatnonzero(counts)[-1]]
        found[..., channel] = (255 * below / top)[values]
    return found


def _posterise(view: Array, level: float, random: np.random.Generator) -> Array:
    step = 2.0 ** (4 + round(level * 0.3))
    return np.floor(view / step) * step


def _solarise(view: Array, level: float, random: np.random.Generator) -> Array:
    return np.where(view < 256 - 25.6 * level, view, 255 - view)


def _moved(view: Array, matrix: Array, shift: tuple[float, float]) -> Array:
    """Sampled at ``matrix · place + shift`` about the centre, borders repeated."""
    from scipy.ndimage import affine_transform

    centre = (np.array(view.shape[:2]) - 1) / 2
    offset = centre - matrix @ centre + np.array(shift)
    planes = [
        affine_transform(view[..., channel], matrix, offset, order=1, mode="nearest")
        for channel in range(view.shape[2])
    ]
    return np.stack(planes, axis=-1)


def _signed(size: float, random: np.random.Generator) -> float:
    return size if random.random() < 0.5 else -size


def _rotate(view: Array, level: float, random: np.random.Generator) -> Array:
    turn = np.deg2rad(_signed(3 * level, random))
    return _moved(view, np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]), (0, 0))


def _shear(view: Array, level: float, random: np.random.Generator) -> Array:
    matrix = np.eye(2)
    matrix[(0, 1) if random.random() < 0.5 else (1, 0)] = _signed(0.03 * level, random)
    return _moved(view, matrix, (0, 0))


def _translate(view: Array, level: float, random: np.random.Generator) -> Array:
    far = _signed(level * view.shape[0] / 30, random)
    return _moved(view, np.eye(2), (far, 0) if random.random() < 0.5 else (0, far))


CHANGES: tuple[Change, ...] = (
    _autocontrast,
    _equalise,
    _posterise,
    _solarise,
    _rotate,
    _shear,
    _translate,
)
"""Changes of tone and of place; none of them is among the corruptions that robustness is measured on."""
