"""PaDiM: a Gaussian of patch features at each position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.encoders import PatchHead
from offnominal.image.detector import ImageBatch
from offnominal.image.encoded import EncodedImageDetector, Precision
from offnominal.normality import PositionGaussians

if TYPE_CHECKING:
    from offnominal.image.export.graph import Graph, Value


@card(
    "padim",
    title="PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization",
    year=2021,
    url="https://arxiv.org/abs/2011.08785",
    kind="detector",
    modality="image",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    streams=True,
    explains=("distance",),
)
class PaDiM(EncodedImageDetector):
    """Mahalanobis distance to a Gaussian at each position: for parts that always lie the same way.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, optional
        Levels whose features are joined; None takes the encoder's default.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    dimensions : int, default 100
        Channels drawn at random from the joined ones; all of them where there are fewer.
    regularisation : float, default 0.01
        Added to the diagonal of each covariance.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian smoothing, in model pixels.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    runtime, precision : str, default "auto"
        Runtime and precision of the encoder.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0
        Seed of the channels drawn.

    Notes
    -----
    Memory is 8·P·d² bytes while learning (P positions, d channels): 80 MB at 32 × 32 and 100.

    Source: Defard et al., ICPR 2021 workshops.
    """

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] | None = None,
        image_size: int = 256,
        dimensions: int = 100,
        regularisation: float = 0.01,
        smoothing: float = 4.0,
        tile: int | None = None,
        runtime: str = "auto",
        precision: Precision = "auto",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.levels = levels
        self.image_size = image_size
        self.dimensions = dimensions
        self.regularisation = regularisation
        self.smoothing = smoothing
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    least_items = 2

    moments_: dict[str, npt.NDArray[Any]]
    _gaussians: PositionGaussians

    def _head(self) -> PatchHead:
        return PatchHead(neighbourhood=1)

    def _drawn(self) -> npt.NDArray[np.intp]:
        width = self.features.channels[0]
        count = min(self.dimensions, width)
        return np.sort(generator(self.seed, "padim", "channels").choice(width, count, replace=False))

    def _rows(self, batch: ImageBatch) -> npt.NDArray[np.float32]:
        """Features of the drawn channels (n, positions, d)."""
        (features,) = self.features.encode(batch.pixels)
        return features.reshape(len(features), -1, features.shape[-1])[..., self._drawn()]

    def _begin(self) -> None:
        height, width = self.features.grids[0]
        self._gaussians = PositionGaussians(
            height * width, len(self._drawn()), regularisation=self.regularisation
        )

    def _absorb(self, batch: ImageBatch) -> None:
        self._gaussians.absorb(self._rows(batch))

    def _merge(self, other: Self) -> None:
        self._gaussians.merge(other._gaussians)

    def _finish(self) -> None:
        self.moments_ = self._gaussians.state()

    def _resume(self) -> None:
        self._restored()

    def _pause(self) -> dict[str, npt.NDArray[Any]]:
        return self._gaussians.state()

    def _unpause(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self._gaussians = PositionGaussians.restore(arrays)

    def _restored(self) -> None:
        self._unpause(self.moments_)

    def _infer(self, batch: ImageBatch) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        height, width = self.features.grids[0]
        distances = self._gaussians.mahalanobis(self._rows(batch))
        return distances.max(axis=1), distances.reshape(-1, height, width)

    def _graph(self, graph: Graph) -> tuple[Value, Value | None]:
        (height, width), channels = self.features.grids[0], self.features.channels[0]
        (features,) = graph.encode(self.features)
        rows = features.reshape(-1, height * width, channels).take(self._drawn(), axis=2)
        centred = (rows - self._gaussians.mean).transpose(1, 0, 2)
        distances = (centred @ self._gaussians.whitening).norm(2).transpose(1, 0)
        places = graph.map(distances.reshape(-1, height, width), (height, width), self.smoothing)
        return distances.max(1), places
