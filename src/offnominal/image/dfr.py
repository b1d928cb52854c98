"""DFR: reconstruction of multi-scale regional features by a small auto-encoder (S025)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from offnominal.core.card import card
from offnominal.core.seeds import generator
from offnominal.encoders import PatchHead
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.trained import Budget, TrainedImageDetector

if TYPE_CHECKING:
    import torch

EPOCH = 50  # steps between looks at the training
ROWS = 10_000  # regional features whose principal components set the code's width


@card(
    "dfr",
    row="S025",
    title="Unsupervised Anomaly Segmentation via Deep Feature Reconstruction",
    year=2020,
    url="https://arxiv.org/abs/2012.07122",
    kind="detector",
    modality="image",
    setting=("full-shot", "multi-class"),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("reconstruction",),
    extra="torch",
)
class DFR(TrainedImageDetector):
    """Reconstruction error of features of many scales, position by position: fine maps, small defects.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, optional
        Levels that are joined; None takes the 12 from the stem to the end of stride 16 or, where the encoder
        names its levels otherwise, its default ones.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    stride : int, default 4
        Pixels between regional features: all levels are brought to a grid of ``image_size / stride``.
    variance : float, default 0.9
        Share of the features' variance whose principal components set the width of the code (Sec. 3.2).
    code : int, optional
        Width of the code; None takes it from ``variance``.
    standardise : bool, default True
        Bring channels to mean 0 and deviation 1 first.
    budget : {"cpu", "paper"}
        Fills ``steps``, ``batch`` and ``rate`` where they are None.
    steps : int, optional
        Optimiser steps.
    batch : int, optional
        Regional features a step.
    rate : float, optional
        Adam's learning rate.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian smoothing, in model pixels.
    memory_budget : int, default 512
        Mebibytes of features held while fitting.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    runtime, precision : str, default "auto"
        Runtime and precision of the encoder.
    weights : str, optional
        File or folder of the encoder's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Notes
    -----
    Differences from the paper: EfficientNet-Lite2's blocks instead of twelve ReLU maps of VGG-19; since
    their last layer is linear, their channels differ in scale, hence ``standardise``. A step takes random
    positions of all images instead of all positions of four: to 1 × 1 convolutions a position is an item of
    its own. Levels are brought to the grid directly, not by way of the image's size. "cpu" trains briefly at
    ten times the paper's rate, which then falls.

    Source: Yang, Shi & Qi, "DFR: Deep Feature Reconstruction for Unsupervised Anomaly Segmentation", 2020.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"steps": 1500, "batch": 1024, "rate": 1e-3},
        "paper": {"steps": 40_000, "batch": 16_384, "rate": 1e-4},
    }
    positions = 512

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] | None = None,
        image_size: int = 256,
        stride: int = 4,
        variance: float = 0.9,
        code: int | None = None,
        standardise: bool = True,
        budget: Budget = "cpu",
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        smoothing: float = 4.0,
        memory_budget: int = 512,
        tile: int | None = None,
        runtime: str = "auto",
        precision: Precision = "auto",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.levels = levels
        self.image_size = image_size
        self.stride = stride
        self.variance = variance
        self.code = code
        self.standardise = standardise
        self.budget = budget
        self.steps = steps
        self.batch = batch
        self.rate = rate
        self.smoothing = smoothing
        self.memory_budget = memory_budget
        self.tile = tile
        self.runtime = runtime
        self.precision = precision
        self.weights = weights
        self.seed = seed

    code_: int

    def _head(self) -> PatchHead:
        side = max(1, self.image_size // self.stride)
        return PatchHead(neighbourhood=1, grid=(side, side))

    def _levels(self) -> tuple[int | str, ...] | None:
        if self.levels is None and self.encoder.startswith("efficientnet_lite2"):
            return ("stem", "0", "1", "2", "3", "4", "6", "7", "9", "10", "12", "14")
        return self.levels

    def _train(self, features: Features) -> torch.nn.Module:
        import torch
        from torch import nn

        from offnominal.image.networks.dfr import FeatureAutoencoder
        from offnominal.image.networks.standard import Standard
        from offnominal.nets.batches import Batches
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded

        scale = Standard(features.means[0], features.deviations[0]) if self.standardise else nn.Identity()
        self.code_ = self.code or self._width(scale, features)
        with seeded(self.seed, "network"):
            network = FeatureAutoencoder(scale, features.shapes[0][-1], self.code_)

        def draw(epoch: int, random: np.random.Generator) -> Iterator[Any]:
            for _ in range(EPOCH):
                yield features.rows(self._setting("batch"), random)

        self._run(
            network.train(),
            lambda rows: network.errors(rows).mean(),
            Batches(EPOCH, draw),
            torch.optim.Adam(network.layers.parameters(), self._setting("rate")),
            steps=self._setting("steps"),
            schedule=cosine(0.05),
        )
        return network

    def _width(self, scale: torch.nn.Module, features: Features) -> int:
        """Principal components that keep the share of the variance."""
        import torch

        rows = scale(torch.from_numpy(features.rows(ROWS, generator(self.seed, "dfr", "width"))))
        spectrum = np.linalg.eigvalsh(np.cov(rows.numpy().T.astype(np.float64)))[::-1].clip(0)
        kept = np.cumsum(spectrum) / max(float(spectrum.sum()), 1e-12)
        return int(np.searchsorted(kept, self.variance)) + 1
