"""Defects planted into views as detectors see them: floats of model size, most of them untouched."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offnominal.data import resize
from offnominal.synth.planted import plant

View = npt.NDArray[np.float32]


def plant_in_view(
    view: View, kind: str, level: float, draw: np.random.Generator
) -> tuple[View, npt.NDArray[np.bool_]]:
    """Plant one defect into a view.

    It is planted at half the size, which is a quarter of the work or less, and only what it changes is
    enlarged: the rest of the view keeps its exact values.

    Parameters
    ----------
    view : ndarray (S, S, 3) float32
        In 0…255, at least 16 pixels each way; never modified.
    kind : str
        One of `planted.KINDS`.
    level : float
        Severity in (0, 1].
    draw : numpy.random.Generator

    Returns
    -------
    view : ndarray (S, S, 3) float32
    mask : ndarray (S / 2, S / 2) bool
        At least 16 pixels each way.

    Raises
    ------
    ValueError
        As `planted.plant` does.
    """
    sides = max(16, view.shape[0] // 2), max(16, view.shape[1] // 2)
    small = np.rint(resize(view, sides)).astype(np.uint8)
    item, mask = plant(small, kind, level, draw)
    change = resize(item.astype(np.float32) - small, view.shape[:2])
    return np.clip(view + change, 0, 255).astype(np.float32), mask
