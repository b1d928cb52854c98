"""Nearest neighbours of one embedding an image: the plainest deep baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.encoders import PoolHead
from offnominal.image.banked import BankedImageDetector
from offnominal.image.detector import ImageBatch
from offnominal.image.encoded import Precision
from offnominal.normality import CoresetBuffer

if TYPE_CHECKING:
    from offnominal.image.export.graph import Graph, Value


@card(
    "embedding_knn",
    title="Deep Nearest Neighbor Anomaly Detection",
    year=2020,
    url="https://arxiv.org/abs/2002.10445",
    kind="detector",
    modality="image",
    setting=("full-shot", "few-shot", "multi-class"),
    supervision="normal-only",
    scope="item",
    localises=False,
    streams=True,
    explains=("distance",),
)
class EmbeddingKNN(BankedImageDetector):
    """Mean distance of an image's embedding to its nearest normal ones; image-level only.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, default ("pooled",)
        Levels averaged over the image and joined.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    neighbours : int, default 2
        Nearest normal images the distance is averaged over.
    bank_size : int, default 50000
        Embeddings kept; a coreset of them beyond that.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    runtime, precision : str, default "auto"
        Runtime and precision of the encoder and the search.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Notes
    -----
    Source: Bergman, Cohen and Hoshen, 2020.
    """

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] = ("pooled",),
        image_size: int = 256,
        neighbours: int = 2,
        bank_size: int = 50_000,
        tile: int | None = None,
        runtime: str = "auto",
        precision: Precision = "auto",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.levels = levels
        self.image_size = image_size
        self.neighbours = neighbours
        self.bank_size = bank_size
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    def _head(self) -> PoolHead:
        return PoolHead()

    def _empty_buffer(self) -> CoresetBuffer:
        # The budget is twice the bank: embeddings are small, and a bank that is never full is exact.
        width = self.features.channels[0]
        return CoresetBuffer(8 * self.bank_size * width, self.bank_size, seed=self.seed)

    def _rows(self, batch: ImageBatch) -> npt.NDArray[np.float32]:
        return self.features.encode(batch.pixels)[0]

    def _infer(self, batch: ImageBatch) -> tuple[npt.NDArray[Any], None]:
        distances, _ = self._search.search(self._rows(batch), min(self.neighbours, len(self.bank_)))
        return distances.mean(axis=1, dtype=np.float64), None

    def _graph(self, graph: Graph) -> tuple[Value, Value | None]:
        (rows,) = graph.encode(self.features)
        distances, _ = graph.nearest(rows, self.bank_, min(self.neighbours, len(self.bank_)))
        return distances.mean(1), None
