"""What all image detectors share: views of model size, tiles, maps at the image's own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.detections import Region
from offnominal.core.errors import BadItem
from offnominal.core.source import Item, Source
from offnominal.data import PixelRange, blend, prefetch, resize, tiles, to_rgb
from offnominal.data.split import near_duplicate_groups, thumbnail
from offnominal.detector import Detector
from offnominal.image.maps import map_from_grid
from offnominal.pipeline import Map, Mapped, Scores
from offnominal.report.regions import regions

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Views:
    """One image, cut into views of the model's size.

    Attributes
    ----------
    pixels : list of ndarray (S, S, 3)
        ``float32`` in 0…255.
    boxes : list of (y0, x0, y1, x1)
        Where each view lies in the image.
    shape : (height, width)
        The image's own size.
    """

    pixels: list[npt.NDArray[np.float32]]
    boxes: list[Box]
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """Views of several images: ``pixels`` (n, S, S, 3), and which views belong to which image."""

    pixels: npt.NDArray[np.float32]
    views: list[Views]


class ImageDetector(Detector):
    """Base of image detectors.

    A method sees `ImageBatch.pixels` and returns for each view a score and, where it localises, a grid of
    patch scores (n, h, w) of any size; the map is that grid enlarged and smoothed by ``smoothing`` model
    pixels. An image that is cut into tiles scores as its worst tile.

    Parameters every image detector has
    -----------------------------------
    image_size : int
        Side of the square the model works at, in pixels.
    tile : int or None
        Cut images whose longer side exceeds this into overlapping square tiles of it; None scales every
        image as a whole.
    seed : int
        Seed of everything random.
    """

    image_size: int
    tile: int | None
    smoothing: float = 0.0
    tile_overlap: float = 0.25

    pixel_low_: float
    pixel_high_: float
    deep_: bool
    kinds_: list[str]
    channels_: list[int]

    def _survey(
        self, source: Source, positions: Sequence[int]
    ) -> tuple[npt.NDArray[np.intp] | None, list[BadItem]]:
        bad: list[BadItem] = []
        thumbnails: list[npt.NDArray[np.float32]] = []
        kinds: set[str] = set()
        channels: set[int] = set()
        lows: list[float] = []
        highs: list[float] = []
        for _, found in prefetch(Mapped(source, _look), positions):
            if isinstance(found, BadItem):
                bad.append(found)
                continue
            small, kind, count, low, high = found.value
            thumbnails.append(small)
            kinds.add(kind)
            channels.add(count)
            lows.append(low)
            highs.append(high)
        if not thumbnails:
            return None, bad
        self.channels_ = sorted(channels)
        self.kinds_ = sorted(kinds)
        self.deep_ = kinds != {"uint8"}
        chosen = PixelRange.of(kinds, min(lows), max(highs))
        self.pixel_low_, self.pixel_high_ = chosen.low, chosen.high
        refused = {entry.item for entry in bad}
        good = [source.references[i] for i in positions if source.references[i].item not in refused]
        if all(reference.group is not None for reference in good):
            return None, bad
        return near_duplicate_groups(np.stack(thumbnails)), bad

    def _ground(self) -> dict[str, Any]:
        return {
            "pixel types": self.deep_,
            "pixel ranges": (self.pixel_low_, self.pixel_high_) if self.deep_ else None,
        }

    def _prepare(self, item: Item) -> Views:
        image = item.value
        height, width, channels = image.shape
        known = getattr(self, "channels_", None)
        if known is not None and channels not in known and not (channels in (1, 3) and {1, 3} & set(known)):
            raise BadItem(
                item.reference.item,
                f"has {channels} channel(s), the model was fitted on {' or '.join(map(str, known))}",
                "convert it, or fit a model on images like it",
            )
        if str(image.dtype) not in getattr(self, "kinds_", [str(image.dtype)]):
            raise BadItem(
                item.reference.item,
                f"holds {image.dtype} pixels, the model was fitted on {' and '.join(self.kinds_)}",
                "convert it to the same depth, or fit a model on images like it",
            )
        boxes: list[Box] = [(0, 0, height, width)]
        if self.tile is not None and max(height, width) > self.tile:
            boxes = tiles(height, width, self.tile, self.tile_overlap)
        return Views([self._view(image[y0:y1, x0:x1]) for y0, x0, y1, x1 in boxes], boxes, (height, width))

    def _view(self, image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if getattr(self, "deep_", False):
            image = PixelRange(self.pixel_low_, self.pixel_high_).apply(image)
        return resize(to_rgb(image), (self.image_size, self.image_size))

    def _collate(self, prepared: list[Views]) -> ImageBatch:
        return ImageBatch(np.stack([view for views in prepared for view in views.pixels]), prepared)

    def _assemble(
        self, batch: ImageBatch, scores: npt.NDArray[Any], maps: Any, *, own_size: bool
    ) -> tuple[Scores, Sequence[Map] | None]:
        ends = np.cumsum([len(views.boxes) for views in batch.views])
        starts = ends - [len(views.boxes) for views in batch.views]
        each = np.maximum.reduceat(np.asarray(scores, dtype=np.float64), starts)
        if maps is None:
            return each, None
        places = [
            self._map(maps[start:end], views, own_size)
            for start, end, views in zip(starts, ends, batch.views, strict=True)
        ]
        return each, places

    def _map(self, grids: npt.NDArray[np.float32], views: Views, own_size: bool) -> Map:
        model = (self.image_size, self.image_size)
        if not own_size:
            found = [map_from_grid(grid, model, model, self.smoothing) for grid in grids]
            peak: Map = np.max(found, axis=0)
            return peak
        parts = [
            map_from_grid(grid, model, (y1 - y0, x1 - x0), self.smoothing)
            for grid, (y0, x0, y1, x1) in zip(grids, views.boxes, strict=True)
        ]
        return parts[0] if len(parts) == 1 else blend(parts, views.boxes, views.shape)

    def _regions(self, found: Map) -> tuple[Region, ...]:
        return () if self.map_level_ is None else regions(found, self.map_level_)


def _look(item: Item) -> tuple[npt.NDArray[np.float32], str, int, float, float]:
    """Thumbnail, dtype, channels and range of an image."""
    image = item.value
    return thumbnail(image), str(image.dtype), image.shape[2], float(image.min()), float(image.max())
