"""Does the file score as the detector does? Run both on the same pixels and compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource, OffnominalError
from offnominal.core.seeds import generator
from offnominal.data import open_source
from offnominal.image.detector import ImageBatch, ImageDetector
from offnominal.image.export.running import Results, Session
from offnominal.image.maps import map_from_grid

LIMITS = {"fp32": 1e-4, "fp16": 2e-2}
IMAGES = 8


class ParityFailed(OffnominalError, RuntimeError):
    """An exported file does not score as its detector does; it was removed."""


def exact(detector: ImageDetector) -> ImageDetector:
    """The same learned state, computing in fp32."""
    twin = detector._worker(1.0)
    if "precision" in twin.get_params():
        twin.set_params(precision="fp32")
    twin._restored()
    return twin


def held_pixels(detector: ImageDetector, sample: Any) -> npt.NDArray[Any]:
    """Pixels of model size to compare on: of the sample, else of seeded soft shapes with sensor noise."""
    if sample is not None:
        source = open_source(sample, "image")
        views = [view for i in range(len(source)) for view in detector._prepare(source.read(i)).pixels]
        if not views:
            raise BadSource(f"{source.name}: no image to compare the export on")
        return np.stack(views)
    random = generator(detector.seed, "export", "pixels")
    size = detector.image_size
    place = np.linspace(0, 2 * np.pi, size)
    waves = np.sin(place * np.arange(1, 7)[:, None] + random.uniform(0, 2 * np.pi, (6, 1)))
    shares = random.normal(0, 20, (IMAGES, 6, 6, 3))
    soft = 128 + np.einsum("nijc,iy,jx->nyxc", shares, waves, waves, optimize=True)
    pixels: npt.NDArray[Any] = np.clip(soft + random.normal(0, 4, soft.shape), 0, 255).astype(np.float32)
    return pixels


def by_detector(detector: ImageDetector, pixels: npt.NDArray[Any]) -> Results:
    """Scores and maps at model size of views."""
    scores: list[Any] = []
    places: list[Any] = []
    side = (detector.image_size,) * 2
    for first in range(0, len(pixels), detector.batch_size):
        score, grids = detector._infer(ImageBatch(pixels[first : first + detector.batch_size], []))
        scores.append(score)
        if grids is not None:
            places += [map_from_grid(grid, side, side, detector.smoothing) for grid in grids]
    found = {"score": np.concatenate(scores).astype(np.float32)}
    return {**found, "map": np.stack(places)} if places else found


def by_session(session: Session, pixels: npt.NDArray[Any]) -> Results:
    """The same of an exported graph, image by image."""
    each = [session(pixels[index : index + 1]) for index in range(len(pixels))]
    return {name: np.concatenate([found[name] for found in each]) for name in each[0]}


def deviation(found: Results, wanted: Results) -> dict[str, float]:
    """Largest relative deviation by output.

    A score is compared with its own size, a map with its peak, both with a hundredth of the largest one of
    the sample at least: a distance of next to nothing has no digits to agree in.
    """
    worst = {}
    for name, value in wanted.items():
        sizes = np.abs(value).reshape(len(value), -1).max(axis=1)
        sizes = np.maximum(sizes, max(1e-2 * float(sizes.max()), 1e-12))
        apart = np.abs(found[name].astype(np.float64) - value).reshape(len(value), -1).max(axis=1)
        worst[name] = float((apart / sizes).max())
    return worst
