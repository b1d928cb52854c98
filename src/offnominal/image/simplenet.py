"""SimpleNet: a discriminator between normal features and the same features with noise (S066)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from offnominal.core.card import card
from offnominal.encoders import PatchHead
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.trained import Budget, TrainedImageDetector

if TYPE_CHECKING:
    import torch

EPOCH = 50  # steps between looks at the training


@card(
    "simplenet",
    row="S066",
    title="SimpleNet: A Simple Network for Image Anomaly Detection and Localization",
    year=2023,
    url="https://arxiv.org/abs/2303.15140",
    kind="detector",
    modality="image",
    setting=("full-shot", "multi-class"),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("none",),
    extra="torch",
)
class SimpleNet(TrainedImageDetector):
    """A small discriminator that tells patch features from noisy ones: quick at detection, brief to train.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen image encoder.
    levels : tuple of int or str, optional
        Levels of the encoder whose features are joined; None takes the encoder's default.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels; the published run shows 288.
    neighbourhood : int, default 3
        Side of the window over which features are averaged, in grid cells.
    adaptor : bool, default True
        Learn a linear map of the features first (Sec. 3.2).
    standardise : bool, default True
        Bring channels to mean 0 and deviation 1 first.
    noise : float, default 0.25
        Standard deviation of the Gaussian noise on adapted features.
    loss : {"truncated", "cross-entropy"}, default "truncated"
        The paper's loss, or that of its ablation.
    threshold : float, default 0.5
        Where the truncated loss stops pulling.
    hidden : int, default 1024
        Width of the discriminator.
    budget : {"cpu", "paper"}
        Fills ``steps``, ``batch`` and ``rate`` where they are None.
    steps : int, optional
        Optimiser steps.
    batch : int, optional
        Patch features a step.
    rate : float, optional
        Learning rate of the discriminator; the adaptor's is half of it.
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
    Differences from the paper: EfficientNet-Lite2 instead of WideResNet-50, hence ``standardise`` and a
    ``noise`` in standard deviations of the features (the published 0.015 is in units of its encoder). A step
    takes random positions of all images instead of all positions of eight. The number of steps is fixed:
    the published code looks at the test set after every epoch and keeps the best, which makes its 99.6
    optimistic.

    Source: Liu, Zhou, Xu & Wang, CVPR 2023.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"steps": 800, "batch": 1024, "rate": 4e-4},
        "paper": {"steps": 4_000, "batch": 8_192, "rate": 2e-4},
    }
    positions = 256

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] | None = None,
        image_size: int = 256,
        neighbourhood: int = 3,
        adaptor: bool = True,
        standardise: bool = True,
        noise: float = 0.25,
        loss: Literal["truncated", "cross-entropy"] = "truncated",
        threshold: float = 0.5,
        hidden: int = 1024,
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
        self.neighbourhood = neighbourhood
        self.adaptor = adaptor
        self.standardise = standardise
        self.noise = noise
        self.loss = loss
        self.threshold = threshold
        self.hidden = hidden
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

    def _head(self) -> PatchHead:
        return PatchHead(neighbourhood=self.neighbourhood)

    def _train(self, features: Features) -> torch.nn.Module:
        import torch
        from torch import nn

        from offnominal.image.networks.simplenet import Discriminator, truncated
        from offnominal.image.networks.standard import Standard
        from offnominal.nets.batches import Batches
        from offnominal.nets.seeding import seeded

        scale = Standard(features.means[0], features.deviations[0]) if self.standardise else nn.Identity()
        with seeded(self.seed, "network"):
            network = Discriminator(scale, features.shapes[0][-1], adaptor=self.adaptor, hidden=self.hidden)
        threshold = self.threshold if self.loss == "truncated" else None

        def step(rows: torch.Tensor) -> torch.Tensor:
            adapted = network.adapt(rows)
            noisy = adapted + self.noise * torch.randn_like(adapted)
            normal, off = network.judge(torch.cat([adapted, noisy])).chunk(2)
            return truncated(normal, off, threshold)

        def draw(epoch: int, random: np.random.Generator) -> Iterator[Any]:
            for _ in range(EPOCH):
                yield features.rows(self._setting("batch"), random)

        rate = self._setting("rate")
        moved: list[dict[str, Any]] = [{"params": network.judge.parameters(), "lr": rate}]
        if self.adaptor:
            moved.append({"params": network.adaptor.parameters(), "lr": rate / 2})
        self._run(
            network.train(),
            step,
            Batches(EPOCH, draw),
            torch.optim.AdamW(moved, weight_decay=1e-5),
            steps=self._setting("steps"),
        )
        return network
