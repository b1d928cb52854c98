"""Generalised normality learning: reverse distillation that holds under distribution shift (S029)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from offnominal.core.card import card
from offnominal.encoders import ImageEncoder, image_encoder
from offnominal.image.augmix import augmix, greyscale
from offnominal.image.detector import ImageBatch
from offnominal.image.encoded import Precision
from offnominal.image.features import Features
from offnominal.image.trained import Budget, TrainedImageDetector

if TYPE_CHECKING:
    import torch

    from offnominal.image.export.graph import Graph, Value

Array = npt.NDArray[Any]


@card(
    "gnl",
    row="S029",
    title="Anomaly Detection under Distribution Shift",
    year=2023,
    url="https://arxiv.org/abs/2303.13845",
    kind="detector",
    modality="image",
    setting=("full-shot",),
    supervision="normal-only",
    scope="item",
    localises=True,
    trains=True,
    explains=("reconstruction",),
    extra="torch",
)
class GNL(TrainedImageDetector):
    """Reverse distillation taught that changed light and colour are normal: for cameras and days that differ.

    A student gives back a frozen teacher's features through a bottleneck; where it cannot, the image is off.
    In training, an AugMix view and a grey one of each normal must give the same bottleneck and the same last
    output. At detection the teacher's early features are re-mapped towards the distribution of one normal
    image's. No shifted image is needed for either.

    Parameters
    ----------
    encoder : str, default "efficientnet_lite2"
        Frozen teacher.
    levels : tuple of int or str, default ("3", "6", "14")
        Its three levels, fine to coarse.
    image_size : int, default 256
        Side of the square the images are scaled to, in pixels.
    align : float, default 0.1
        Weight of the alignment of views, half each for the bottleneck and the last output; the distillation
        has the rest. 0 is plain reverse distillation.
    matching : float, default 0.5
        Share of the re-mapped features after the first two levels at detection; 0 leaves them as they are.
    budget : {"cpu", "paper"}
        Fills the parameters that are None.
    width, depth : int, optional
        Channels of the bottleneck, and residual blocks a stage.
    steps : int, optional
        Optimiser steps.
    batch : int, optional
        Images a step.
    rate : float, optional
        Adam's learning rate.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian smoothing, in model pixels. The image score is the
        map's peak.
    memory_budget : int, default 512
        Mebibytes of features held while fitting.
    tile : int, optional
        Cut larger images into overlapping square tiles of this side.
    runtime : str, default "auto"
        Runtime of the teacher, while fitting.
    precision : {"auto", "fp32", "bf16"}, default "auto"
        Of the teacher, while fitting; detection is in fp32.
    weights : str, optional
        File or folder of the teacher's weights, or "random"; None takes those that are installed.
    seed : int, default 0

    Notes
    -----
    The normal image that features are matched to is the one whose mean features lie nearest to the mean of
    all. Distributions are matched at 33 quantiles, see `networks.gnl.Matching`: an exact sort gives
    equal values of an empty background an order by rounding alone, and no two runtimes agree on it.

    Other differences from the paper: EfficientNet-Lite2, its channels standardised, instead of WideResNet-50;
    bilinear enlargement in the decoder instead of transposed convolutions; views repeat their border instead
    of showing black. "cpu" trains a narrow student briefly.

    Source: Cao, Zhu & Pang, ICCV 2023.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"width": 96, "depth": 1, "steps": 500, "batch": 4, "rate": 2e-3},
        "paper": {"width": 512, "depth": 3, "steps": 10_000, "batch": 16, "rate": 5e-3},
    }

    def __init__(
        self,
        encoder: str = "efficientnet_lite2",
        levels: tuple[int | str, ...] = ("3", "6", "14"),
        image_size: int = 256,
        align: float = 0.1,
        matching: float = 0.5,
        budget: Budget = "cpu",
        width: int | None = None,
        depth: int | None = None,
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
        self.align = align
        self.matching = matching
        self.budget = budget
        self.width = width
        self.depth = depth
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

    @property
    def features(self) -> ImageEncoder:
        """The teacher's levels as they are."""
        return image_encoder(
            self.encoder,
            levels=self.levels,
            size=self.image_size,
            runtime=self.runtime,
            precision=self.precision,
            weights=self.weights,
        )

    def _train(self, features: Features) -> torch.nn.Module:
        import torch

        from offnominal.image.networks.gnl import (
            Matching,
            Scored,
            Student,
            alignment,
            distances,
            stages,
        )
        from offnominal.image.networks.standard import Standard
        from offnominal.nets.batches import minibatches
        from offnominal.nets.schedules import cosine
        from offnominal.nets.seeding import seeded

        standards = [
            Standard(mean, deviation)
            for mean, deviation in zip(features.means, features.deviations, strict=True)
        ]
        with seeded(self.seed, "network"):
            student = Student(features.shapes, int(self._setting("width")), int(self._setting("depth")))

        def take(indices: Array, random: np.random.Generator) -> list[list[Array]]:
            levels = [features.take(indices)]
            if self.align:
                pixels = features.pixels(indices)
                mixed = np.stack([augmix(view, random) for view in pixels])
                levels += [self.features.encode(views) for views in (mixed, greyscale(pixels))]
            return levels

        def step(given: list[list[torch.Tensor]]) -> torch.Tensor:
            joined = [torch.cat(level) for level in zip(*given, strict=True)]
            levels = [s(level).permute(0, 3, 1, 2) for s, level in zip(standards, joined, strict=True)]
            code, made = student(levels)
            count = len(given[0][0])
            apart = distances([level[:count] for level in levels], [level[:count] for level in made])
            distilled = torch.stack([each.mean() for each in apart]).sum()
            if not self.align:
                return distilled
            aligned = torch.zeros(())
            for whole in (code, made[0]):
                one, *views = whole.split(count)
                aligned = aligned + alignment(one, views) / 2
            return (1 - self.align) * distilled + self.align * aligned

        self._run(
            student.train(),
            step,
            minibatches(features.count, int(self._setting("batch")), take),
            torch.optim.Adam(student.parameters(), float(self._setting("rate")), betas=(0.5, 0.999)),
            steps=int(self._setting("steps")),
            schedule=cosine(0.02),
            frozen=standards,
        )
        reference = [torch.from_numpy(level[0]).permute(2, 0, 1) for level in self._typical(features)]
        matchings = [
            Matching(level, torch.from_numpy(deviation), self.matching)
            for level, deviation in zip(reference[:2], features.deviations[:2], strict=True)
            if self.matching
        ]
        grid = features.shapes[0][0]
        return Scored(
            stages(self.features), matchings, standards, student, self.image_size, grid, self.smoothing
        )

    def _typical(self, features: Features) -> list[Array]:
        """Levels (1, h, w, c) of the view whose mean features lie nearest to the mean of all."""
        apart = np.zeros(features.count)
        for view in range(features.count):
            for level, mean, deviation in zip(
                features.take([view]), features.means, features.deviations, strict=True
            ):
                least = 1e-3 * float(deviation.max()) + 1e-9
                apart[view] += np.square((level.mean((0, 1, 2)) - mean) / np.maximum(deviation, least)).mean()
        return features.take([int(apart.argmin())])

    def _inputs(self, batch: ImageBatch) -> list[Array]:
        return [batch.pixels]

    def _graph_inputs(self, graph: Graph) -> list[Value]:
        return [graph.pixels]

    def _environment(self) -> dict[str, Any]:
        return {}  # the teacher is a part of the network, which is stored whole
