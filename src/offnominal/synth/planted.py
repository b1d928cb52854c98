"""Defects planted into photographs of surfaces: scratch, stain, patch and dent.

They are simple and look plausible; they are for demonstrations and tests of plumbing, and no measure of how
well a method finds real defects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offnominal.core.seeds import generator

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Planted:
    """Images with planted defects.

    Attributes
    ----------
    items : list of ndarray (H, W, C) uint8
    masks : list of ndarray (H, W) bool
        Pixels the defect touched.
    kinds : list of str
        From `KINDS`.
    levels : list of float
        Severity in (0, 1]: how strong and large the defect was asked to be.
    """

    items: list[Pixels]
    masks: list[Mask]
    kinds: list[str]
    levels: list[float]


def generate(
    source: Sequence[npt.NDArray[np.uint8]], n: int, *, kinds: Sequence[str] | None = None, seed: int = 0
) -> Planted:
    """Plant one defect into each of ``n`` images.

    Parameters
    ----------
    source : sequence of ndarray (H, W) or (H, W, C) uint8
        Normal images, taken in turn; never modified.
    n : int
        How many to make.
    kinds : sequence of str, optional
        Kinds in turn; all of `KINDS` by default.
    seed : int, default 0

    Returns
    -------
    Planted

    Raises
    ------
    ValueError
        No source image, or a kind that does not exist.
    """
    if not len(source):
        raise ValueError("planting defects needs at least one image")
    chosen = list(KINDS if kinds is None else kinds)
    made = Planted([], [], [], [])
    for number in range(n):
        draw = generator(seed, "planted", str(number))
        level = float(draw.uniform(0.5, 1.0))
        kind = chosen[number % len(chosen)]
        item, mask = plant(source[number % len(source)], kind, level, draw)
        made.items.append(item)
        made.masks.append(mask)
        made.kinds.append(kind)
        made.levels.append(level)
    return made


def plant(
    image: npt.NDArray[np.uint8], kind: str, level: float, draw: np.random.Generator
) -> tuple[Pixels, Mask]:
    """Plant one defect.

    Parameters
    ----------
    image : ndarray (H, W) or (H, W, C) uint8
        At least 16 pixels each way.
    kind : str
        One of `KINDS`.
    level : float
        Severity in (0, 1].
    draw : numpy.random.Generator

    Returns
    -------
    item : ndarray (H, W, C) uint8
    mask : ndarray (H, W) bool

    Raises
    ------
    ValueError
        No such kind, a level out of range, or an image that is too small.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no planted defect {kind!r}; there is {', '.join(KINDS)}")
    if not 0 < level <= 1:
        raise ValueError(f"level must lie in (0, 1], got {level}")
    pixels = np.atleast_3d(image).astype(np.float64)
    if min(pixels.shape[:2]) < 16:
        raise ValueError(f"an image of {pixels.shape[1]}×{pixels.shape[0]} is too small for a planted defect")
    changed, touched = _MAKERS[kind](pixels, level, draw)
    item = np.rint(np.clip(changed, 0, 255)).astype(np.uint8)
    return item, touched


def _grid(shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return rows, columns


def _place(shape: tuple[int, ...], margin: float, draw: np.random.Generator) -> Floats:
    """A point (row, column) at least ``margin`` of the side away from the border."""
    return np.array([side * draw.uniform(margin, 1 - margin) for side in shape[:2]])


def _scratch(pixels: Floats, level: float, draw: np.random.Generator) -> tuple[Floats, Mask]:
    """A thin bent groove: a bright line with a dark edge on one side, fading towards its ends."""
    side = min(pixels.shape[:2])
    centre = _place(pixels.shape, 0.35, draw)
    angle = draw.uniform(0, np.pi)
    along = np.array([np.sin(angle), np.cos(angle)])
    across = np.array([along[1], -along[0]])
    length = side * (0.35 + 0.4 * level)
    bend = side * draw.uniform(-0.1, 0.1)
    steps = np.linspace(-0.5, 0.5, int(4 * length))
    wobble = np.cumsum(draw.normal(size=len(steps)))
    wobble = (wobble - np.linspace(wobble[0], wobble[-1], len(steps))) / max(float(np.ptp(wobble)), 1e-9)
    offset = bend * (4 * steps**2) + 0.015 * side * wobble
    line = centre + np.outer(steps * length, along) + np.outer(offset, across)
    rows, columns = _grid(pixels.shape)
    distance = np.full(pixels.shape[:2], np.inf)
    sign = np.zeros_like(distance)
    strength = np.zeros_like(distance)
    for step, (row, column) in zip(steps, line, strict=True):
        away = np.hypot(rows - row, columns - column)
        nearer = away < distance
        distance[nearer] = away[nearer]
        strength[nearer] = min(1.0, 6 * (0.5 - abs(step)) + 0.25)
        sign[nearer] = ((rows - row) * across[0] + (columns - column) * across[1])[nearer]
    width = max(0.8, side * 0.014 * (0.7 + 0.6 * level))
    core = np.exp(-((distance / width) ** 2)) * strength
    rim = np.exp(-(((distance - 1.8 * width) / width) ** 2)) * (sign > 0) * strength
    depth = 80 + 80 * level
    changed = pixels + (depth * core - 0.6 * depth * rim)[..., None]
    return changed, (core > 0.2) | (rim > 0.3)


def _stain(pixels: Floats, level: float, draw: np.random.Generator) -> tuple[Floats, Mask]:
    """A dark spill with a ragged outline and a darker rim; the surface shows through."""
    side = min(pixels.shape[:2])
    shape = _blob(pixels.shape, _place(pixels.shape, 0.3, draw), side * (0.11 + 0.09 * level), draw)
    cover = np.clip(0.5 + shape * side / 4, 0, 1)
    rim = np.exp(-((shape * side / 4) ** 2))
    darker = 1 - cover * (0.5 + 0.25 * level) - 0.1 * rim * cover
    return pixels * darker[..., None], cover > 0.25


def _blob(shape: tuple[int, ...], centre: Floats, radius: float, draw: np.random.Generator) -> Floats:
    """Signed relative distance to a ragged round outline: positive inside, in units of the smaller side."""
    rows, columns = _grid(shape)
    angle = np.arctan2(rows - centre[0], columns - centre[1])
    outline = np.ones(shape[:2])
    for wave in range(2, 7):
        outline += draw.normal(0, 0.22 / wave) * np.cos(wave * angle + draw.uniform(0, 2 * np.pi))
    inside: Floats = (radius * outline - np.hypot(rows - centre[0], columns - centre[1])) / min(shape[:2])
    return inside


def _patch(pixels: Floats, level: float, draw: np.random.Generator) -> tuple[Floats, Mask]:
    """A piece that is gone: what is left is a smooth, dark ground with a shadow at its upper edge."""
    side = min(pixels.shape[:2])
    centre = _place(pixels.shape, 0.3, draw)
    rows, columns = _grid(pixels.shape)
    corners = 5 + int(draw.integers(3))
    radius = side * (0.11 + 0.09 * level)
    angles = np.sort(draw.uniform(0, 2 * np.pi, corners))
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + 0.25 * (angles - angles.mean())
    inside = np.full(pixels.shape[:2], np.inf)
    for angle, reach in zip(angles, radius * draw.uniform(0.8, 1.15, corners), strict=True):
        away = reach - ((rows - centre[0]) * np.sin(angle) + (columns - centre[1]) * np.cos(angle))
        inside = np.minimum(inside, away)
    cover = np.clip(inside + 0.5, 0, 1)
    slope = (rows - centre[0]) / (2 * radius)
    ground = np.quantile(pixels, 0.12, axis=(0, 1)) * (0.8 + 0.12 * slope[..., None])
    ground = ground + draw.normal(0, 2.0, pixels.shape[:2])[..., None]
    lit = np.exp(-np.clip(inside, 0, None) / (0.03 * side))
    ground = ground * (1 - 0.6 * (lit * np.clip(-2 * slope, 0, 1))[..., None])
    return pixels + cover[..., None] * (ground - pixels), cover > 0.5


def _dent(pixels: Floats, level: float, draw: np.random.Generator) -> tuple[Floats, Mask]:
    """A hollow: the surface is drawn towards its centre, shaded on one side and lit on the other."""
    from scipy.ndimage import map_coordinates

    side = min(pixels.shape[:2])
    centre = _place(pixels.shape, 0.35, draw)
    rows, columns = _grid(pixels.shape)
    radius = side * (0.17 + 0.1 * level)
    down, right = (rows - centre[0]) / radius, (columns - centre[1]) / radius
    away = np.hypot(down, right)
    hollow = np.clip(1 - away**2, 0, None) ** 2
    pull = 1 + (0.7 + 0.7 * level) * hollow
    places = [centre[0] + (rows - centre[0]) * pull, centre[1] + (columns - centre[1]) * pull]
    warped = np.stack(
        [map_coordinates(pixels[..., c], places, order=1, mode="reflect") for c in range(pixels.shape[2])],
        axis=2,
    )
    light = draw.uniform(0, 2 * np.pi)
    slope = (down * np.sin(light) + right * np.cos(light)) * np.sqrt(hollow)
    shade = 1 + (0.9 + 0.7 * level) * slope - 0.2 * hollow
    return warped * shade[..., None], hollow > 0.1


_MAKERS: dict[str, Callable[[Floats, float, np.random.Generator], tuple[Floats, Mask]]] = {
    "scratch": _scratch,
    "stain": _stain,
    "missing piece": _patch,
    "dent": _dent,
}

KINDS = tuple(_MAKERS)
"""Kinds of planted defects."""
