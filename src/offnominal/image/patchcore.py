"""PatchCore: a memory bank of normal patch features, and the distance to it (S114)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.encoders import PatchHead
from offnominal.image.banked import BankedImageDetector
from offnominal.image.detector import ImageBatch
from offnominal.image.encoded import Precision
from offnominal.normality import CoresetBuffer

if TYPE_CHECKING:
    from offnominal.image.export.graph import Graph, Value


@card(
    "patchcore",
    row="S114",
    title="Towards Total Recall in Industrial Anomaly Detection",
    year=2022,
    url="https://arxiv.org/abs/2106.08265",
    kind="detector",
    modality="image",
    setting=("full-shot", "few-shot", "multi-class"),
    supervision="normal-only",
    scope="item",
    localises=True,
    streams=True,
    explains=("distance",),
)
class PatchCore(BankedImageDetector):
    """Distance of each patch to a memory bank of normal patches: the default, fast and without training.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, optional
        Levels of the encoder whose features are joined; None takes the encoder's default.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    bank_size : int, default 4000
        Rows of the memory bank after coreset selection.
    neighbourhood : int, default 3
        Side of the window over which features are averaged, in grid cells.
    reweight : bool, default True
        Weigh the image score by how dense the bank is around the worst patch's neighbour (Sec. 3.3, eq. 7);
        False takes the largest patch distance, as the authors' code does.
    neighbours : int, default 9
        Bank rows that make up the neighbourhood of that weight.
    projection : int, default 128
        Dimensions in which the coreset is selected; the bank keeps the full features.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian smoothing, in model pixels.
    memory_budget : int, default 256
        Mebibytes of patch features held while fitting; up to it the coreset is the exact greedy one, beyond
        it features are merged and reduced as they stream in.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    runtime, precision : str, default "auto"
        Runtime and precision of the encoder and the search.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Notes
    -----
    Differences from the paper: images are scaled to a square without the centre crop, so that no border goes
    unseen; the embedded encoder is EfficientNet-Lite2 instead of WideResNet-50, about a seventeenth of
    the multiplications.

    Source: Roth et al., CVPR 2022.
    """

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] | None = None,
        image_size: int = 256,
        bank_size: int = 4_000,
        neighbourhood: int = 3,
        reweight: bool = True,
        neighbours: int = 9,
        projection: int = 128,
        smoothing: float = 4.0,
        memory_budget: int = 256,
        tile: int | None = None,
        runtime: str = "auto",
        precision: Precision = "auto",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.levels = levels
        self.image_size = image_size
        self.bank_size = bank_size
        self.neighbourhood = neighbourhood
        self.reweight = reweight
        self.neighbours = neighbours
        self.projection = projection
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    def _head(self) -> PatchHead:
        return PatchHead(neighbourhood=self.neighbourhood)

    def _empty_buffer(self) -> CoresetBuffer:
        return CoresetBuffer(
            budget_bytes=int(self.share * self.memory_budget * 2**20),
            size=self.bank_size,
            seed=self.seed,
            projection=self.projection,
        )

    def _rows(self, batch: ImageBatch) -> npt.NDArray[np.float32]:
        (features,) = self.features.encode(batch.pixels)
        return features.reshape(-1, features.shape[-1])

    def _infer(self, batch: ImageBatch) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        (features,) = self.features.encode(batch.pixels)
        n, height, width, channels = features.shape
        patches = features.reshape(n, height * width, channels)
        distances, nearest = self._search.search(features.reshape(-1, channels), k=1)
        grid = distances.reshape(n, height * width)
        worst = grid.argmax(axis=1)
        rows = np.arange(n)
        scores = grid[rows, worst].astype(np.float64)
        if self.reweight:
            scores *= self._weights(patches[rows, worst], nearest.reshape(n, -1)[rows, worst], scores)
        return scores, grid.reshape(n, height, width)

    def _graph(self, graph: Graph) -> tuple[Value, Value | None]:
        (height, width), channels = self.features.grids[0], self.features.channels[0]
        (features,) = graph.encode(self.features)
        distances, nearest = graph.nearest(features.reshape(-1, channels), self.bank_, 1)
        grid = distances.reshape(-1, height * width)
        worst, scores = grid.argmax(1), grid.max(1)
        count = min(self.neighbours, len(self.bank_))
        if self.reweight and count > 1:
            patch = features.reshape(-1, height * width, channels).pick(worst)
            around = graph.constant(self._search.bank_neighbours(count))
            rows = around.take(nearest.reshape(-1, height * width).pick(worst))
            far = (patch.spread(1) - graph.constant(self.bank_).take(rows)).norm(2)
            shift = far.max(1)
            scores = scores * (1.0 - (scores - shift).exp() / (far - shift.spread(1)).exp().sum(1))
        return scores, graph.map(grid.reshape(-1, height, width), (height, width), self.smoothing)

    def _weights(
        self,
        patches: npt.NDArray[np.float32],
        nearest: npt.NDArray[np.int64],
        distances: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Weight of each image's worst patch (n,): 1 minus its share in a soft-max over the neighbourhood."""
        count = min(self.neighbours, len(self.bank_))
        if count < 2:
            return np.ones(len(patches))
        _, around = self._search.search(self.bank_[nearest], count)
        far = np.linalg.norm(patches[:, None].astype(np.float64) - self.bank_[around], axis=2)
        shift = far.max(axis=1, keepdims=True)
        weights: npt.NDArray[np.float64] = 1 - np.exp(distances - shift[:, 0]) / np.exp(far - shift).sum(
            axis=1
        )
        return weights
