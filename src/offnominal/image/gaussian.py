"""A Gaussian on pooled deep features, scored by Mahalanobis distance (S030)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.encoders import PoolHead, image_encoder
from offnominal.image.detector import ImageBatch, ImageDetector
from offnominal.normality import ShrunkGaussian


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
class Gaussian(ImageDetector):
    """One Gaussian a level of the encoder, on globally averaged features: tiny, image-level only.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int, optional
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
        levels: tuple[int, ...] | None = None,
        image_size: int = 256,
        shrinkage: str = "ledoit-wolf",
        drop_variance: float = 0.0,
        tile: int | None = None,
        runtime: str = "auto",
        precision: str = "auto",
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
        self.seed = seed

    dimensions_: list[int]
    _levels: list[ShrunkGaussian]

    def _features(self) -> Any:
        return image_encoder(
            self.encoder,
            levels="all" if self.levels is None else self.levels,
            size=(self.image_size, self.image_size),
            runtime=self.runtime,
            precision=self.precision,
            head=PoolHead(),
        )

    def _environment(self) -> dict[str, Any]:
        encoder = self._features()
        return {
            "encoder": self.encoder,
            "weights": encoder.fingerprint,
            "runtime": encoder.runtime,
            "precision": encoder.precision,
        }
