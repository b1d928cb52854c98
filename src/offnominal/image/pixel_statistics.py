"""Mean and deviation of each pixel after alignment: the baseline without any network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.errors import BadItem
from offnominal.core.source import Source
from offnominal.image.detector import ImageBatch, ImageDetector

if TYPE_CHECKING:
    from offnominal.image.export.graph import Graph, Value


@card(
    "pixel_statistics",
    title="Golden-template comparison by per-pixel mean and deviation after alignment",
    year=1992,
    url="https://doi.org/10.1145/146370.146374",
    kind="detector",
    modality="image",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    streams=True,
    explains=("distance",),
)
class PixelStatistics(ImageDetector):
    """Standardised difference of each pixel from the normal mean, after a shift onto a reference.

    Parameters
    ----------
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    largest_shift : float, default 0.1
        Share of the side by which an image may be shifted to lie on the reference; 0 for no alignment.
    blur : float, default 2.0
        Standard deviation of the blur that makes up for what alignment leaves, in model pixels.
    floor : float, default 4.0
        Least deviation of a pixel, in grey levels: quantisation and sensor noise.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    seed : int, default 0
        Seed of the calibration's split.

    Notes
    -----
    The shift is the peak of the phase correlation with the first training image (Kuglin and Hines, 1975); the
    image score is the map's 99.9 % quantile.
    """

    def __init__(
        self,
        image_size: int = 256,
        largest_shift: float = 0.1,
        blur: float = 2.0,
        floor: float = 4.0,
        tile: int | None = None,
        seed: int = 0,
    ) -> None:
        self.image_size = image_size
        self.largest_shift = largest_shift
        self.blur = blur
        self.floor = floor
        self.tile = tile
        self.seed = seed

    reference_: npt.NDArray[np.float32]
    moments_: dict[str, npt.NDArray[Any]]
    _moments: dict[str, npt.NDArray[Any]]
    _mean: npt.NDArray[np.float32]
    _deviation: npt.NDArray[np.float32]

    def _survey(
        self, source: Source, positions: Sequence[int]
    ) -> tuple[npt.NDArray[np.intp] | None, list[BadItem]]:
        groups, bad = super()._survey(source, positions)
        refused = {entry.item for entry in bad}
        for position in positions:
            if source.references[position].item not in refused:
                view = self._prepare(source.read(position)).pixels[0]
                self.reference_ = view.mean(axis=2, dtype=np.float32)
                break
        return groups, bad

    def _aligned(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Views shifted onto the reference and blurred, (n, S, S, 3)."""
        from scipy.ndimage import gaussian_filter

        aligned = np.empty(pixels.shape, np.float32)
        for number, view in enumerate(pixels):
            rows, columns = self._shift(view.mean(axis=2, dtype=np.float32))
            aligned[number] = _moved(view, rows, columns)
        blurred: npt.NDArray[np.float32] = gaussian_filter(
            aligned, (0, self.blur, self.blur, 0), mode="nearest"
        )
        return blurred

    def _shift(self, grey: npt.NDArray[np.float32]) -> tuple[int, int]:
        reach = int(self.largest_shift * self.image_size)
        if reach == 0:
            return 0, 0
        from scipy.fft import irfft2, rfft2

        cross = rfft2(self.reference_ - self.reference_.mean()) * np.conj(rfft2(grey - grey.mean()))
        surface = irfft2(cross / np.maximum(np.abs(cross), 1e-6), s=grey.shape)
        offsets = np.r_[0 : reach + 1, -reach:0]
        near = surface[np.ix_(offsets, offsets)]
        row, column = np.unravel_index(near.argmax(), near.shape)
        return int(offsets[row]), int(offsets[column])

    def _begin(self) -> None:
        shape = (self.image_size, self.image_size, 3)
        self._moments = {
            "count": np.zeros(1, np.int64),
            "sum": np.zeros(shape),
            "squares": np.zeros(shape),
        }

    def _absorb(self, batch: ImageBatch) -> None:
        aligned = self._aligned(batch.pixels).astype(np.float64)
        self._moments["count"] = self._moments["count"] + len(aligned)
        self._moments["sum"] = self._moments["sum"] + aligned.sum(axis=0)
        self._moments["squares"] = self._moments["squares"] + (aligned**2).sum(axis=0)

    def _merge(self, other: Self) -> None:
        # Another's images lie on another reference: its sums move as that reference does.
        rows, columns = self._shift(other.reference_)
        for name, more in other._moments.items():
            self._moments[name] = self._moments[name] + (
                _moved(more, rows, columns) if more.ndim > 1 else more
            )

    def _finish(self) -> None:
        self.moments_ = self._moments
        self._restored()

    def _resume(self) -> None:
        self._moments = dict(self.moments_)

    def _pause(self) -> dict[str, npt.NDArray[Any]]:
        return self._moments

    def _unpause(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self._moments = arrays

    def _restored(self) -> None:
        count = self.moments_["count"][0]
        mean = self.moments_["sum"] / count
        variance = np.maximum(self.moments_["squares"] / count - mean**2, 0)
        self._mean = mean.astype(np.float32)
        self._deviation = np.sqrt(variance + self.floor**2).astype(np.float32)

    def _infer(self, batch: ImageBatch) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        standardised = np.abs(self._aligned(batch.pixels) - self._mean) / self._deviation
        maps = standardised.max(axis=3)
        return np.quantile(maps.reshape(len(maps), -1), 0.999, axis=1), maps

    def _graph(self, graph: Graph) -> tuple[Value, Value | None]:
        from offnominal.image.export.alignment import aligned, blur

        size = self.image_size
        matrix = blur(size, self.blur)
        planes = aligned(graph, self.reference_, int(self.largest_shift * size)).transpose(0, 3, 1, 2)
        apart = (matrix @ (planes @ matrix.T) - self._mean.transpose(2, 0, 1)).abs()
        maps = (apart / self._deviation.transpose(2, 0, 1)).max(1)
        above = (1 - 0.999) * (size**2 - 1)  # the quantile's place, counted from the top
        rank = int(above)
        top = maps.reshape(-1, size**2).largest(rank + 2)
        ends = np.zeros(rank + 2)
        ends[rank], ends[rank + 1] = 1 - (above - rank), above - rank
        return (top * ends).sum(1), maps


def _moved(view: npt.NDArray[Any], rows: int, columns: int) -> npt.NDArray[Any]:
    """Shift a view; what comes in at the borders repeats the nearest pixel."""
    height, width = view.shape[:2]
    down = np.clip(np.arange(height) - rows, 0, height - 1)
    right = np.clip(np.arange(width) - columns, 0, width - 1)
    return view[np.ix_(down, right)]
