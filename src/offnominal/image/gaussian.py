"""A Gaussian on pooled deep features, scored by Mahalanobis distance (S030)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.encoders import PoolHead
from offnominal.encoders.image import network
from offnominal.image.detector import ImageBatch
from offnominal.image.encoded import EncodedImageDetector, Precision
from offnominal.normality import ShrunkGaussian

if TYPE_CHECKING:
    from offnominal.image.export.graph import Graph, Value


@card(
    "gaussian",
    row="S030",
    title="Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly Detection",
    year=2020,
    url="https://arxiv.org/abs/2005.14140",
    kind="detector",
    modality="image",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=False,
    streams=True,
    explains=("distance",),
)
class Gaussian(EncodedImageDetector):
    """One Gaussian a level of the encoder, on globally averaged features: tiny, image-level only.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, optional
        Levels with a Gaussian each; None takes every level of the encoder.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    shrinkage : {"ledoit-wolf", "oas"}, default "ledoit-wolf"
        Estimator of the covariance.
    drop_variance : float, default 0.0
        Share of each level's variance whose leading principal components are dropped, keeping those of
        least variance (Sec. 3.3); 0 keeps all.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    runtime, precision : str, default "auto"
        Runtime and precision of the encoder.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0
        Seed of the calibration's split.

    Notes
    -----
    The image score is the sum of the levels' distances. The chi-square law holds for one level only: with
    ``levels=(k,)``, ``calibrate(..., decision=ChiSquare(rate, degrees_of_freedom=detector.dimensions_[0]))``
    gives the paper's threshold.

    Differences from the paper: EfficientNet-Lite2 instead of EfficientNet-B4.

    Source: Rippel et al., ICPR 2020.
    """

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] | None = None,
        image_size: int = 256,
        shrinkage: Literal["ledoit-wolf", "oas"] = "ledoit-wolf",
        drop_variance: float = 0.0,
        tile: int | None = None,
        runtime: str = "auto",
        precision: Precision = "auto",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.levels = levels
        self.image_size = image_size
        self.shrinkage = shrinkage
        self.drop_variance = drop_variance
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    least_items = 2

    dimensions_: list[int]
    moments_: dict[str, npt.NDArray[Any]]
    _gaussians: list[ShrunkGaussian]

    def _head(self) -> PoolHead:
        return PoolHead(join=False)

    def _levels(self) -> Sequence[int | str]:
        if self.levels is not None:
            return self.levels
        return [name for name in network(self.encoder).taps if name not in ("pooled", "logits")]

    def _begin(self) -> None:
        self._gaussians = [
            ShrunkGaussian(width, shrinkage=self.shrinkage, drop_variance=self.drop_variance)
            for width in self.features.channels
        ]

    def _absorb(self, batch: ImageBatch) -> None:
        for gaussian, rows in zip(self._gaussians, self.features.encode(batch.pixels), strict=True):
            gaussian.absorb(rows)

    def _merge(self, other: Self) -> None:
        for gaussian, more in zip(self._gaussians, other._gaussians, strict=True):
            gaussian.merge(more)

    def _finish(self) -> None:
        self.moments_ = self._pause()
        self.dimensions_ = [gaussian.dimensions for gaussian in self._gaussians]

    def _resume(self) -> None:
        self._unpause(self.moments_)

    def _pause(self) -> dict[str, npt.NDArray[Any]]:
        return {
            f"{level}.{name}": value
            for level, gaussian in enumerate(self._gaussians)
            for name, value in gaussian.state().items()
        }

    def _unpause(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        levels: dict[int, dict[str, npt.NDArray[Any]]] = {}
        for name, value in arrays.items():
            level, _, key = name.partition(".")
            levels.setdefault(int(level), {})[key] = value
        self._gaussians = [ShrunkGaussian.restore(levels[level]) for level in sorted(levels)]

    def _restored(self) -> None:
        self._unpause(self.moments_)

    def _infer(self, batch: ImageBatch) -> tuple[npt.NDArray[np.float64], None]:
        rows = self.features.encode(batch.pixels)
        distances = [g.mahalanobis(level) for g, level in zip(self._gaussians, rows, strict=True)]
        return np.sum(distances, axis=0), None

    def _graph(self, graph: Graph) -> tuple[Value, Value | None]:
        levels = zip(self._gaussians, graph.encode(self.features), strict=True)
        distances = [((rows - g.mean) @ g.whitening).norm(1).spread(1) for g, rows in levels]
        return graph.op("Concat", *distances, axis=1).sum(1), None
